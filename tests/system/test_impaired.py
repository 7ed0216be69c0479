"""The kernel as the peer behind a bad link: netd's TAP is bridged to a relay (drivers/tap_relay.hpp) that loses, delays,
reorders, doubles and spoils frames, and the kernel's stack is at the relay's other end, in a namespace of its own."""

import json
import os
import pathlib
import subprocess
import sys

from harness import SystemTest, main, process, workload
from netdtools.namespace import Namespace, add_address, add_address6
from netdtools.paths import build_dir

TALK = pathlib.Path(__file__).resolve().parent / "impaired_talk.py"
CASES = ("bulk", "both", "short", "half_close", "urgent", "zero_window", "tiny", "simultaneous")
WEATHER = {"loss": 0.02, "corrupt": 0.003, "duplicate": 0.01, "reorder": 0.03, "reorder-hold-us": 3000, "delay-us": 20000}
SECONDS = 240  # for a conversation: some lose a SYN, a FIN and more


class Impaired(SystemTest):
    @classmethod
    def start_bed(cls):
        super().start_bed()
        near = cls.bed.peer
        cls.far = Namespace.create(f"nd-{cls.tag}-far", beside=near)
        cls.addClassCleanup(cls.far.delete)
        mac = json.loads(near.run(["ip", "-j", "link", "show", "dev", "nd0"]).stdout)[0]["address"]
        command = [build_dir() / "tests/system/tap-relay", "--near", near.path, "--near-device", "rl0", "--far", cls.far.path,
                   "--far-device", "gp0"]
        for key, value in WEATHER.items():
            command += [f"--{key}", value]
        prefix = [] if os.geteuid() == 0 else near.prefix_user()
        cls.relay = subprocess.Popen([str(part) for part in (*prefix, *command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        cls.addClassCleanup(cls.end_relay)
        if cls.relay.stdout.readline() != "ready\n":
            raise process.ToolError("the relay did not start")
        for arguments in (["address", "flush", "dev", "nd0"], ["link", "add", "br0", "type", "bridge", "mcast_snooping", "0"],
                          ["link", "set", "dev", "nd0", "address", "02:00:00:77:00:01", "master", "br0"],
                          ["link", "set", "dev", "rl0", "master", "br0", "up"], ["link", "set", "dev", "br0", "up"]):
            near.run(["ip", *arguments])
        # netd knows the kernel's Ethernet address; the other end has it now.
        cls.far.run(["ip", "link", "set", "dev", "gp0", "address", mac])
        add_address(cls.far, "gp0", cls.bed.peer_address)
        add_address6(cls.far, "gp0", cls.bed.peer_address6)

    @classmethod
    def end_relay(cls):
        print(cls.relay.communicate(timeout=20)[0].strip(), file=sys.stderr)

    def places(self):
        """(netd's, the kernel's) for each family."""
        for six in (False, True):
            address = self.bed.peer_address6 if six else self.bed.peer_address
            yield workload.on_netd(self.bed, six=six), workload.Place("kernel", self.far.prefix, address)

    def converse(self, server, client, case, port):
        command = [sys.executable, TALK, "serve", server.address, port, case]
        log = self.scratch / f"{case}-{port}.log"
        with open(log, "w") as file:
            serving = subprocess.Popen(server.argv(command), stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
                                       env=server.environment)
        try:
            client.run([sys.executable, TALK, "ask", server.address, port, case], timeout=SECONDS)
            serving.wait(SECONDS)
        finally:
            workload.stop(serving)
        self.assertEqual(log.read_text(), "ok\n")

    def both_directions(self, case):
        port = 7000
        for netd, kernel in self.places():
            for server, client in ((netd, kernel), (kernel, netd)):
                port += 100
                with self.subTest(server=server.name, address=server.address):
                    self.converse(server, client, case, port)

    def test_path_mtu(self):
        """The kernel's route gets narrower while text is under way, then wide again."""
        for netd, kernel in self.places():
            six = ":" in kernel.address
            network = netd.address[:netd.address.rindex("::" if six else ".")] + ("::/64" if six else ".0/24")
            family = ["-6"] if six else []
            for mtu in (1280, 1400, 1500):
                self.far.run(["ip", *family, "route", "change", network, "dev", "gp0", "mtu", mtu])
                with self.subTest(mtu=mtu, address=kernel.address):
                    self.converse(netd, kernel, "both", 8000 + mtu)


for name in CASES:
    setattr(Impaired, f"test_{name}", lambda self, case=name: self.both_directions(case))


if __name__ == "__main__":
    main()
