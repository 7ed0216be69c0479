"""Sudden death: kill -9 of a program in the middle of traffic, and of netd. The other side sees an end, nobody hangs."""

import os
import signal
import subprocess
import sys
import time

from harness import SystemTest, main, process, workload

PORT = 6000

# Sends for ever, telling on stdout when the stream flows.
SEND = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.send(b"x" * 100000)
print("flows", flush=True)
while True:
    s.send(b"x" * 100000)
"""

# Accepts one connection, reads to its end, tells how it ended. Tells on stdout when it listens and when data flows.
RECEIVE = """
import socket, sys
door = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listens", flush=True)
s, _ = door.accept()
s.settimeout(20)
total = 0
try:
    while part := s.recv(1 << 20):
        if total == 0:
            print("flows", flush=True)
        total += len(part)
    print("FIN", flush=True)
except ConnectionResetError:
    print("RST", flush=True)
except TimeoutError:
    print("HANG", flush=True)
"""

# One program per way of waiting in a call on netd's sockets; after netd's death each must come back with an error or an
# end. Prints the name of the way when it is about to wait.
WAIT = """
import select, socket, sys
way, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
near = socket.create_connection((address, port))
print("waits", flush=True)
try:
    if way == "recv":
        found = near.recv(1)
    elif way == "send":
        while True:
            near.send(b"x" * 100000)
    elif way == "poll":
        p = select.poll(); p.register(near, select.POLLIN); found = p.poll()
    elif way == "epoll":
        e = select.epoll(); e.register(near, select.EPOLLIN); found = e.poll()
    elif way == "select":
        found = select.select([near], [], [])
    elif way == "accept":
        door = socket.create_server((sys.argv[4], 0)); found = door.accept()
    print("came back:", found, flush=True)
except OSError as error:
    print("error:", error, flush=True)
try:
    socket.create_connection((address, port), 5)
    print("connected without netd", flush=True)
except OSError as error:
    print("new work:", error, flush=True)
"""

# A server with a listener and a connection with unread text, both in epoll. Waits for a line on stdin; netd's end is over
# then. Prints what each call says of it.
AFTER = """
import errno, select, socket, sys
door = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listens", flush=True)
near, _ = door.accept()
door.setblocking(False)
near.setblocking(False)
e = select.epoll()
e.register(door, select.EPOLLIN)
e.register(near, select.EPOLLIN)
e.poll()
print("has text", flush=True)
sys.stdin.readline()
def tell(name, call, *arguments):
    try:
        print(name, call(*arguments), flush=True)
    except OSError as error:
        print(name, errno.errorcode[error.errno], flush=True)
for _ in range(2):
    tell("epoll", lambda: sorted((fd == door.fileno(), events) for fd, events in e.poll(5)))
poll = select.poll()
poll.register(door, select.POLLIN)
tell("poll", lambda: [events for _, events in poll.poll(5)])
for name, call, *arguments in (
    ("accept", door.accept), ("name", door.getsockname), ("listen", door.listen), ("shutdown", door.shutdown, 2),
    ("peer", near.getpeername), ("recv", near.recv, 100), ("recv", near.recv, 100), ("send", near.send, b"x"),
    ("error", near.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR), ("nodelay", near.getsockopt, 6, 1),
    ("socket", lambda: socket.socket().connect((sys.argv[1], 1))), ("close", door.close), ("close", near.close)):
    tell(name, call, *arguments)
"""

# Says a word to it from a port that is always the same and tells how the connection ended.
TALK = """
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", 6001))
s.connect((sys.argv[1], int(sys.argv[2])))
s.settimeout(20)
s.send(b"word")
try:
    print("FIN" if s.recv(1) == b"" else "text", flush=True)
except ConnectionResetError:
    print("RST", flush=True)
"""


class Traffic(SystemTest):
    """Starts the small programs above and has them talk."""

    def start(self, place, script, *arguments):
        process_ = subprocess.Popen(place.argv([sys.executable, "-c", script, *arguments]), stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, stdin=subprocess.PIPE, text=True, env=place.environment)

        def cleanup():
            process_.kill()
            process_.wait()
            process_.stdout.close()
            process_.stdin.close()

        self.addCleanup(cleanup)
        return process_

    def expect(self, running, line):
        self.assertEqual(running.stdout.readline().strip(), line)

    def flow(self, sender, receiver):
        """A stream from one place to the other that flows: (sending program, receiving program)."""
        receiving = self.start(receiver, RECEIVE, receiver.address, PORT)
        self.expect(receiving, "listens")
        sending = self.start(sender, SEND, receiver.address, PORT)
        self.expect(sending, "flows")
        self.expect(receiving, "flows")
        return sending, receiving


class DeathOfPrograms(Traffic):
    def test_killed_sender_on_netd(self):
        for receiver in (self.peer, self.netd):
            with self.subTest(receiver=receiver.name):
                sending, receiving = self.flow(self.netd, receiver)
                sending.kill()
                sending.wait()
                self.assertIn(receiving.stdout.readline().strip(), ("FIN", "RST"))
                receiving.wait(5)

    def test_killed_receiver_on_netd(self):
        for sender in (self.peer, self.netd):
            with self.subTest(sender=sender.name):
                sending, receiving = self.flow(sender, self.netd)
                receiving.kill()
                receiving.wait()
                # With unread data the kernel would reset, so the sender's send fails; it must not block for ever.
                self.assertIn("Error", sending.communicate(timeout=20)[0])

    def test_killed_server_with_connections(self):
        for client in (self.peer, self.netd):
            with self.subTest(client=client.name):
                with self.serving(self.netd, workload.redis_server(self.netd, PORT, self.scratch), PORT, client) as server:
                    load = subprocess.Popen(client.argv(["redis-benchmark", "-h", self.netd.address, "-p", PORT, "-t", "set",
                                                         "-n", 100000000, "-c", 20]), stdout=subprocess.DEVNULL,
                                            stderr=subprocess.DEVNULL, env=client.environment)
                    self.addCleanup(load.kill)
                    time.sleep(0.5)
                    self.assertIsNone(load.poll())
                    os.killpg(server.pid, signal.SIGKILL)
                    load.wait(20)
                # The port is free again at once.
                with self.serving(self.netd, workload.redis_server(self.netd, PORT, self.scratch), PORT, client):
                    pass

    def test_killed_worker_of_several(self):
        """One of two nginx workers dies in the middle of traffic: the service goes on."""
        files = self.folder("files")
        (files / "small").write_text("x" * 612)
        with self.serving(self.netd, workload.nginx(self.netd, PORT, self.folder("nginx"), files), PORT, self.peer) as master:
            load = subprocess.Popen(self.peer.argv(["wrk", "-t1", "-c16", "-d3s", f"http://{self.netd.address}:{PORT}/small"]),
                                    stdout=subprocess.DEVNULL)
            self.addCleanup(load.kill)
            time.sleep(1)
            with open(f"/proc/{master.pid}/task/{master.pid}/children") as file:
                worker = int(file.read().split()[0])
            os.kill(worker, signal.SIGKILL)
            load.wait(30)
            self.assertGreater(workload.wrk(self.peer, self.netd.address, PORT, "small", 1), 0)


class DeathOfNetd(Traffic):
    def tearDown(self):
        """netd is dead by intent here; the next test gets a fresh one."""
        self.start_bed()

    def test_waiting_programs_come_back(self):
        for way in ("recv", "send", "poll", "epoll", "select", "accept"):
            with self.subTest(way=way):
                door = subprocess.Popen(self.peer.argv(["socat", f"TCP4-LISTEN:{PORT},bind={self.peer.address},reuseaddr,fork",
                                                        "EXEC:sleep 60"]), stderr=subprocess.DEVNULL)
                self.addCleanup(door.wait)
                self.addCleanup(door.kill)
                self.peer.run([sys.executable, "-c", workload.REACH, self.peer.address, PORT, 5])
                waiting = self.start(self.netd, WAIT, way, self.peer.address, PORT, self.netd.address)
                self.expect(waiting, "waits")
                time.sleep(0.3)
                self.bed.kill_netd()
                said = waiting.communicate(timeout=20)[0].splitlines()
                self.assertRegex(said[0], "^(error|came back):")
                self.assertRegex(said[1], "^new work:")
                door.kill()
                self.start_bed()

    def told_after(self, number):
        """What a server says after a signal ended netd, and how its peer's connection ended."""
        server = self.start(self.netd, AFTER, self.netd.address, PORT)
        self.expect(server, "listens")
        client = self.start(self.peer, TALK, self.netd.address, PORT)
        self.expect(server, "has text")
        self.bed.kill_netd(number)
        peer_saw = client.communicate("", timeout=20)[0].strip() if number != signal.SIGKILL else ""
        said = server.communicate("go\n", timeout=20)[0]
        self.start_bed()
        return said, peer_saw

    def test_an_orderly_end_looks_to_programs_as_a_crash(self):
        crash, _ = self.told_after(signal.SIGKILL)
        self.assertIn("accept ENETDOWN\n", crash)
        self.assertNotIn("EBADF", crash)
        orderly, peer_saw = self.told_after(signal.SIGTERM)
        self.assertEqual(orderly, crash)
        self.assertIn(peer_saw, ("FIN", "RST"))

    def test_testbed_goes_down_after_the_death_of_netd(self):
        self.bed.kill_netd()
        self.assertTrue(self.bed.down(self.tag))
        self.assertFalse(process.is_alive(self.bed.state["netd"]))
        self.assertFalse(self.bed.peer.exists())


if __name__ == "__main__":
    main()
