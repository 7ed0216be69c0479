"""bench-idle-kernel: a figure that holds a socket at least and not ten, and an error instead of one without root."""

import json
import os
import pathlib
import subprocess
import sys

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "idle_kernel.py"


def run(*arguments):
    return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, timeout=100)


def main():
    assert run("--rounds", "-1").returncode == 2
    if not os.access("/proc/slabinfo", os.R_OK):
        assert run("--quick").returncode == 1
        print("/proc/slabinfo is for root")
        sys.exit(77)
    done = run("--connections", "300", "--rounds", "2")
    assert done.returncode == 0, done.stderr
    one = json.loads(done.stdout)
    assert one["name"] == "bytes.idle_kernel" and 1500 < one["value"] < 15000 and one["low"] <= one["value"] <= one["high"], one


if __name__ == "__main__":
    main()
