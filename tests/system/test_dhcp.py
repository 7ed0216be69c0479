"""netd's IPv4 address from a real DHCP server (udhcpd) over TAP: lease, use, renewal, a server that vanishes."""

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
