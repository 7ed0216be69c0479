"""Groups against the kernel over TAP: datagrams both ways, the reports on the wire, answers to queries; and UDP segments over
the device's offload. Both families."""

import json
import subprocess
import sys

from harness import SystemTest, main

GROUPS = {"4": "239.7.7.7", "6": "ff15::7"}

# Joins, says so, and prints what comes: FAMILY GROUP ADDRESS-OR-INTERFACE
RECEIVE = """
import socket, struct, sys
family, group, by = sys.argv[1:]
six = family == "6"
kind = socket.AF_INET6 if six else socket.AF_INET
s = socket.socket(kind, socket.SOCK_DGRAM)
s.bind(("::" if six else "0.0.0.0", 7777))
to = socket.inet_pton(kind, group)
if six:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, to + struct.pack("I", int(by)))
else:
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, to + socket.inet_aton(by))
s.settimeout(20)
print("joined", flush=True)
print(s.recv(100).decode(), flush=True)
"""

# FAMILY GROUP ADDRESS-OR-INTERFACE ADDRESS TEXT
SEND = """
import socket, struct, sys, time
family, group, by, own, text = sys.argv[1:]
six = family == "6"
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
if six:
    s.bind((own, 0))
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, int(by))
else:
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(by))
for _ in range(5):
    s.sendto(text.encode(), (group, 7777))
    time.sleep(0.1)
"""

# On the kernel's side of the TAP: one query of the newest version, then what netd reports, a line of JSON a record, until
# the group of interest was told of as WANTED. FAMILY GROUP WANTED QUERY(0/1)
WATCH = """
import json, socket, struct, sys, time
family, group, wanted, ask = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1"
six = family == "6"
kind = socket.AF_INET6 if six else socket.AF_INET
watch = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
watch.bind(("nd0", 0))
watch.settimeout(0.5)
print("watching", flush=True)

def query():
    if six:
        s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        index = socket.if_nametoindex("nd0")
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        alert = (socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, bytes([0, 0, 5, 2, 0, 0, 1, 0]))
        body = struct.pack("!BBHHH", 130, 0, 0, 500, 0) + bytes(16) + bytes(4)
        s.sendmsg([body], [alert], 0, ("ff02::1", 0, 0, index))
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 2)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([0x94, 4, 0, 0]))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        s.setsockopt(socket.SOL_SOCKET, 25, b"nd0\\0")
        body = struct.pack("!BBHIBBH", 0x11, 5, 0, 0, 2, 125, 0)
        total = sum(struct.unpack("!6H", body))
        total = (total & 0xffff) + (total >> 16)
        s.sendto(body[:2] + struct.pack("!H", ~total & 0xffff) + body[4:], ("224.0.0.1", 0))

def records(frame):
    at = 14 + 40 + 8 if six else 14 + (frame[14] & 15) * 4
    if six and (frame[12:14] != b"\\x86\\xdd" or frame[20] != 0 or frame[at] != 143):
        return
    if not six and (frame[12:14] != b"\\x08\\0" or frame[23] != 2 or frame[at] != 0x22):
        return
    width = 16 if six else 4
    number, at = struct.unpack_from("!H", frame, at + 6)[0], at + 8
    for _ in range(number):
        sources = struct.unpack_from("!H", frame, at + 2)[0]
        yield frame[at], socket.inet_ntop(kind, frame[at + 4:at + 4 + width]), sources
        at += 4 + width * (1 + sources)

end = time.monotonic() + 20
asked = 0
while time.monotonic() < end:
    if ask and time.monotonic() > asked + 2:
        query()
        asked = time.monotonic()
    try:
        frame, address = watch.recvfrom(65536)
    except TimeoutError:
        continue
    if address[2] == socket.PACKET_OUTGOING:
        continue
    for record in records(frame):
        if record[1] == group and record[0] == wanted:
            print(json.dumps(record), flush=True)
            sys.exit(0)
sys.exit(1)
"""

# FAMILY: takes one coalesced read or several, until there are 30000 bytes
TAKE = """
import hashlib, socket, struct, sys
six = sys.argv[1] == "6"
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_UDP, 104, 1)
s.bind(("::" if six else "0.0.0.0", 7778))
s.settimeout(20)
print("ready", flush=True)
got, sizes = b"", set()
while len(got) < 30000:
    data, messages, _, _ = s.recvmsg(65536, 100)
    got += data
    sizes.update(struct.unpack("i", value)[0] for level, kind, value in messages if (level, kind) == (17, 104))
print(hashlib.sha256(got).hexdigest(), sorted(sizes), flush=True)
"""
CUT = """
import socket, sys
six = ":" in sys.argv[1]
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 7778))
s.send(b"", socket.MSG_DONTWAIT)
s.setsockopt(socket.IPPROTO_UDP, 103, 1200)
s.send(bytes(i % 251 for i in range(30000)))
"""


class Running:
    """A program that says things line by line."""

    def __init__(self, command, environment):
        self.program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.program.terminate()
        self.program.wait(10)
        self.program.stdout.close()

    def line(self):
        return self.program.stdout.readline().strip()


class Multicast(SystemTest):
    def netds(self, family):
        """How a program on netd names the interface, and how one on the peer does."""
        if family == "4":
            return self.bed.netd_address, self.bed.peer_address
        return "0", self.peer.run([sys.executable, "-c", "import socket; print(socket.if_nametoindex('nd0'))"]).stdout.strip()

    def own(self, place):
        return self.bed.netd_address6 if place is self.netd else self.bed.peer_address6

    def start(self, place, script, *arguments):
        return Running(place.argv([sys.executable, "-c", script, *arguments]), place.environment)

    def test_to_a_member_on_netd_and_to_one_in_the_kernel(self):
        for family, group in GROUPS.items():
            netd_by, peer_by = self.netds(family)
            for receiver, receive_by, sender, send_by in ((self.netd, netd_by, self.peer, peer_by),
                                                          (self.peer, peer_by, self.netd, netd_by)):
                with self.subTest(family=family, receiver=receiver.name):
                    with self.start(receiver, RECEIVE, family, group, receive_by) as running:
                        self.assertEqual(running.line(), "joined")
                        sender.run([sys.executable, "-c", SEND, family, group, send_by, self.own(sender), "hear me"])
                        self.assertEqual(running.line(), "hear me")

    def test_reports_on_the_wire(self):
        to_include, to_exclude, is_exclude = 3, 4, 2
        for family, group in GROUPS.items():
            netd_by, peer_by = self.netds(family)
            with self.subTest(family=family):
                with self.start(self.peer, WATCH, family, group, str(to_exclude), "0") as watcher:
                    self.assertEqual(watcher.line(), "watching")
                    with self.start(self.netd, RECEIVE, family, group, netd_by) as running:
                        self.assertEqual(running.line(), "joined")
                        self.assertEqual(json.loads(watcher.line()), [to_exclude, group, 0])
                        with self.start(self.peer, WATCH, family, group, str(is_exclude), "1") as asking:
                            self.assertEqual(asking.line(), "watching")
                            self.assertEqual(json.loads(asking.line()), [is_exclude, group, 0])
                        with self.start(self.peer, WATCH, family, group, str(to_include), "0") as leaving:
                            self.assertEqual(leaving.line(), "watching")
                            self.peer.run([sys.executable, "-c", SEND, family, group, peer_by, self.own(self.peer), "go"])
                            self.assertEqual(running.line(), "go")
                            self.assertEqual(json.loads(leaving.line()), [to_include, group, 0])

    def test_segments_both_ways(self):
        for family in GROUPS:
            netd, peer = (self.bed.netd_address, self.bed.peer_address) if family == "4" else (
                self.bed.netd_address6, self.bed.peer_address6)
            seen = set()
            for receiver, sender, to in ((self.netd, self.peer, netd), (self.peer, self.netd, peer), (self.netd, self.netd, netd)):
                with self.subTest(family=family, receiver=receiver.name, sender=sender.name):
                    with self.start(receiver, TAKE, family) as taker:
                        self.assertEqual(taker.line(), "ready")
                        sender.run([sys.executable, "-c", CUT, to])
                        digest, sizes = taker.line().split(" ", 1)
                        seen.add(digest)
                        self.assertEqual(sizes, "[1200]")
            self.assertEqual(len(seen), 1)


if __name__ == "__main__":
    main()
