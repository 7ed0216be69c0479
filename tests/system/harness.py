"""The ground of the system tests: a testbed per class, a veth pair where the kernel is the oracle, and after every test
a look whether netd still lives and holds no socket. Exit code 77 (skipped) where no testbed can be made."""

import os
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
from netdtools import leaks, process, workload  # noqa: E402
from netdtools.process import ToolError  # noqa: E402
from netdtools.testbed import Testbed, VethPair, why_not_possible  # noqa: E402

__all__ = ["SystemTest", "Testbed", "ToolError", "VethPair", "leaks", "main", "process", "workload"]


class SystemTest(unittest.TestCase):
    """`netd` is a place through netrun, `peer` the kernel on the other side of the TAP."""

    needs_veth = False

    @classmethod
    def setUpClass(cls):
        cls.tag = f"t{os.getpid()}"
        cls.scratch = pathlib.Path(tempfile.mkdtemp(prefix="netd-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.scratch, ignore_errors=True)
        cls.start_bed()
        cls.addClassCleanup(Testbed.down, cls.tag)
        if cls.needs_veth:
            cls.pair = VethPair.up(cls.tag)
            cls.addClassCleanup(VethPair.down, cls.tag)

    @classmethod
    def start_bed(cls, config=None):
        """A fresh netd, with a configuration of this text if there is one; also what a test that killed the last one calls."""
        Testbed.down(cls.tag)
        path = None
        if config is not None:
            path = cls.scratch / "netd.toml"
            path.write_text(config)
        cls.bed = Testbed.up(cls.tag, config=path)
        cls.netd = workload.on_netd(cls.bed)
        cls.share = workload.on_netd(cls.bed, "--share", "one")
        cls.peer = workload.on_peer(cls.bed)

    def tearDown(self):
        self.assertTrue(self.bed.netd_is_alive(), f"netd has ended:\n{process.tail_of_file(self.bed.log)}")
        left = leaks.held(self.bed)
        self.assertEqual(left, [], "netd still holds something of programs that ended")

    def serving(self, place, command, port, client):
        log = self.scratch / f"{self.id().rpartition('.')[2]}-{place.name}-{port}.log"
        return workload.serving(place, command, log, port, client)

    def folder(self, name):
        path = self.scratch / name
        path.mkdir(exist_ok=True)
        return path

    def directions(self):
        """(server's place, client's place): netd serves the kernel, the kernel serves netd, both on netd, by TCP and as
        joined pairs."""
        return [(self.netd, self.peer), (self.peer, self.netd), (self.netd, self.netd), (self.share, self.share)]


def main():
    reason = why_not_possible()
    if reason:
        print(f"no testbed here: {reason.splitlines()[0]}")
        sys.exit(77)
    # netd outlives the object that started it; Python would warn of that.
    unittest.main(verbosity=2, warnings="ignore")
