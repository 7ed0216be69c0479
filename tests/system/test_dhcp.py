"""netd's IPv4 address from a real DHCP server (udhcpd) over TAP: lease, use, renewal, a server that vanishes, a netd that is
killed and asks for what it had."""

import contextlib
import json
import shutil
import subprocess
import sys

from harness import SystemTest, main, process, workload

HTTP = 8000
LEASE_S = 10

CONFIG = """\
socket = "{socket}"
cpus = "{cpus}"

[[interface]]
driver = "{driver}"
name = "{tap}"
dhcp = true
"""

# What comes to the DHCP server's port, by whatever device: message type, options 50 and 54, ciaddr, source.
WATCH = """
import socket, sys
watch = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
print("ready", flush=True)
while True:
    packet, where = watch.recvfrom(2048)
    head = (packet[0] & 15) * 4
    if where[2] == 4 or packet[9] != 17 or packet[head + 2:head + 4] != (67).to_bytes(2, "big"):
        continue  # outgoing, or no DHCP
    message = packet[head + 8:]
    options, at = {}, 240
    while at < len(message) and message[at] != 255:
        size = 0 if message[at] == 0 else message[at + 1] + 1
        options[message[at]] = message[at + 2:at + 1 + size]
        at += 1 + size
    dotted = [socket.inet_ntoa(options[kind]) if kind in options else "none" for kind in (50, 54)]
    print(options[53][0], *dotted, socket.inet_ntoa(message[12:16]), socket.inet_ntoa(packet[12:16]), flush=True)
"""
DISCOVER, REQUEST = "1", "3"

SERVER = """\
start {address}
end {address}
interface nd0
lease_file {folder}/leases
pidfile {folder}/pid
min_lease 5
option subnet 255.255.255.0
option router {router}
option dns {router}
option lease {lease}
"""


class Dhcp(SystemTest):
    @classmethod
    def start_bed(cls):
        super().start_bed(CONFIG)

    @contextlib.contextmanager
    def server(self):
        folder = self.folder("udhcpd")
        (folder / "leases").touch()
        config = folder / "conf"
        config.write_text(SERVER.format(address=self.bed.netd_address, router=self.bed.peer_address, folder=folder, lease=LEASE_S))
        with open(folder / "log", "w") as log:
            running = subprocess.Popen([str(part) for part in (*self.peer.prefix, "busybox", "udhcpd", "-f", "-I", self.bed.peer_address, config)],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield running
        finally:
            running.terminate()
            running.wait(10)

    def lines(self):
        return json.loads(process.run(self.bed.netctl("addr", "--json")).stdout)["addresses"]

    def has_address(self):
        return any(line["address"] == f"{self.bed.netd_address}/24" and line["state"] == "valid" for line in self.lines())

    def renewals(self):
        return json.loads(process.run(self.bed.netctl("stat", "--json")).stdout)["counters"]["dhcp.renewals"]["total"]

    def test_lease_use_renewal_and_loss(self):
        self.assertFalse(self.has_address())
        with self.server():
            self.assertTrue(process.wait_until(self.has_address, 60, step=0.2), self.lines())
            leases = [line for line in self.lines() if line["address"].startswith("dhcp ")]
            self.assertIn(f"dhcp {self.bed.netd_address} from {self.bed.peer_address}", leases[0]["address"])
            self.assertIn({"interface": "nd0", "index": leases[0]["index"], "address": f"default via {self.bed.peer_address}",
                           "state": "gateway"}, self.lines())
            self.peer.run(["ping", "-n", "-q", "-c2", "-W2", self.bed.netd_address])
            self.talk()
            self.assertTrue(process.wait_until(lambda: self.renewals() >= 2, 60, step=0.5), self.lines())
            self.assertTrue(self.has_address())
            self.talk()
        self.assertTrue(process.wait_until(lambda: not self.has_address(), 60, step=0.5), self.lines())
        self.assertNotEqual(self.peer.run(["ping", "-n", "-q", "-c1", "-W1", self.bed.netd_address], check=False).returncode, 0)
        with self.server():
            self.assertTrue(process.wait_until(self.has_address, 120, step=0.5), self.lines())
            self.talk()

    @contextlib.contextmanager
    def heard(self):
        """What was heard up to the call of what this gives, message by message."""
        log = self.folder("watch") / "log"
        with open(log, "w") as out:
            running = subprocess.Popen([str(part) for part in (*self.peer.prefix, sys.executable, "-c", WATCH)],
                                       stdin=subprocess.DEVNULL, stdout=out)
        try:
            self.assertTrue(process.wait_until(lambda: "ready" in log.read_text(), 10, step=0.05))
            yield lambda: [line.split() for line in log.read_text().splitlines()[1:]]
        finally:
            running.kill()
            running.wait(10)

    def test_restart_asks_for_what_it_had(self):
        with self.server():
            self.assertTrue(process.wait_until(self.has_address, 120, step=0.2), self.lines())
        with self.heard() as messages:
            self.bed.kill_netd()
            self.bed.start_netd_again()
            with self.server():
                self.assertTrue(process.wait_until(self.has_address, 60, step=0.2), self.lines())
                asked = messages()
                # RFC 2131 4.3.2, INIT-REBOOT: the address as requested, no server, from nowhere.
                self.assertEqual(asked[0], [REQUEST, self.bed.netd_address, "none", "0.0.0.0", "0.0.0.0"])
                self.assertNotIn(DISCOVER, [message[0] for message in asked])
                self.talk()

    def talk(self):
        files = self.folder("files")
        digest = workload.random_file(files / "some", 1 << 20)
        for server, client in ((self.netd, self.peer), (self.peer, self.netd)):
            with self.subTest(server=server.name):
                with self.serving(server, workload.http_server(server, HTTP, files), HTTP, client):
                    self.assertEqual(workload.fetch(client, f"http://{server.address}:{HTTP}/some")[:2], (digest, 1 << 20))


if __name__ == "__main__":
    if shutil.which("busybox") is None:
        print("no busybox here: tools/install-deps")
        sys.exit(77)
    main()
