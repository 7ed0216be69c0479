"""A VLAN of the TAP against a VLAN of the kernel: ping, TCP with the device's segmentation both ways, UDP; all of it with
the tag."""

import pathlib
import sys

from harness import SystemTest, main, workload
from netdtools.namespace import add_address, add_address6  # harness knows the way

CONFIG = """\
socket = "{socket}"
cpus = "{cpus}"

[[interface]]
driver = "{driver}"
name = "{tap}"
address = ["{addr}", "{addr6}"]

[[interface]]
driver = "vlan"
name = "nd0.7"
parent = "{tap}"
vlan = 7
address = ["10.207.0.2/24", "fd00:207::2/64"]
"""
IPERF, HTTP = 5201, 8000
TAGS = pathlib.Path(__file__).resolve().with_name("vlan_tags.py")


class Vlan(SystemTest):
    @classmethod
    def start_bed(cls):
        super().start_bed(CONFIG)
        cls.make_vlan()
        add_address(cls.bed.peer, "nd0.7", "10.207.0.1")
        add_address6(cls.bed.peer, "nd0.7", "fd00:207::1")

    @classmethod
    def make_vlan(cls):
        """The kernel's own VLAN; where it has none, tags by eBPF in front of the kernel's TCP."""
        ways = [["ip", "link", "add", "link", "nd0", "name", "nd0.7", "type", "vlan", "id", "7"],
                [sys.executable, TAGS, "nd0", "nd0.7", "7"]]
        refusals = []
        for way in ways:
            made = cls.peer.run(way, check=False)
            if made.returncode == 0:
                return
            refusals.append(made.stderr.strip())
        cls.bed.down(cls.tag)
        print(f"this kernel makes no VLANs: {'; '.join(refusals)}")
        sys.exit(77)

    def test_ping(self):
        for address in ("10.207.0.2", "fd00:207::2"):
            for size in (56, 1452, 5000):
                with self.subTest(address=address, size=size):
                    self.peer.run(["ping", "-n", "-q", "-c2", "-i0.2", "-W2", "-s", size, address])

    def test_iperf_both_ways(self):
        self.netd.address = "10.207.0.2"
        for reverse in (False, True):
            for udp in (False, True):
                with self.subTest(reverse=reverse, udp=udp):
                    with self.serving(self.netd, workload.iperf3_server(self.netd, IPERF), IPERF, self.peer):
                        result = workload.iperf3(self.peer, "10.207.0.2", IPERF, seconds=1, reverse=reverse, udp=udp,
                                                 **({"rate": "20M"} if udp else {}))
                        if udp:
                            self.assertGreater(result[0], 0)
                            self.assertLess(result[1], 5)

    def test_the_same_bytes(self):
        self.netd.address = "10.207.0.2"
        files = self.folder("files")
        digest = workload.random_file(files / "big", 16 << 20)
        with self.serving(self.netd, workload.http_server(self.netd, HTTP, files), HTTP, self.peer):
            self.assertEqual(workload.fetch(self.peer, f"http://10.207.0.2:{HTTP}/big")[:2], (digest, 16 << 20))


if __name__ == "__main__":
    main()
