#!/usr/bin/env python3
"""benchmarks/train runs all that the rows compare: what a profile has never seen is built as what is never used."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(TOP / "benchmarks"), str(TOP / "tools")]
from suite import group_stack  # noqa: E402

# Stands for meson and for every program: notes its arguments, and that something was counted.
FAKE = """#!/bin/sh
name=${0##*/}
[ "$name" = meson ] || { echo "$name $*" >>"$FAKE_LOG"; mkdir -p "$0.p"; : >"$0.p/fake.gcda"; }
"""


class Train(unittest.TestCase):
    def ran(self):
        """The arguments of every run of bench-stack."""
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="netd-train-")))
        benchmarks = folder / "benchmarks"
        for name in ("meson", "bench-stack", "bench-bare"):
            path = (folder if name == "meson" else benchmarks) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(FAKE)
            path.chmod(0o755)
        (folder / "tree" / "benchmarks").mkdir(parents=True) # without lwIP's sources
        train = folder / "tree" / "benchmarks" / "train"
        train.write_text((TOP / "benchmarks" / "train").read_text())
        log = folder / "log"
        environment = {**os.environ, "FAKE_LOG": str(log), "PATH": f"{folder}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", train, folder], capture_output=True, text=True, env=environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [line for line in log.read_text().splitlines() if line.startswith("bench-stack ")]

    def test_every_discipline_and_lock_is_trained_with_every_small_workload(self):
        ran = self.ran()
        for workload in ("conn", "rr", "udp"):
            for variants in group_stack.families().values():
                for what in variants.values():
                    wanted = [f"--{option} {what[key]}" for key, option in (("discipline", "discipline"), ("lock", "lock"), ("locks", "locks-per-operation"))
                              if what.get(key) not in (None, 1, "mutex")]
                    found = [line for line in ran if line.startswith(f"bench-stack {workload} ") and all(f"{one} " in f"{line} " for one in wanted)]
                    self.assertTrue(found, f"{workload} {' '.join(wanted)}")


if __name__ == "__main__":
    unittest.main()
