"""bench-stack runs each workload for a moment under each discipline, clients and servers on different threads: operations are
done and nothing is refused, not at the end either."""

import json
import os
import subprocess
import sys

DISCIPLINES = (("message",), ("inline",), ("giant", "--lock", "spin"), ("striped", "--shards", "4", "--no-near"))


def worked(*arguments):
    """As long as it takes on a machine that others use."""
    for seconds in ("0.02", "0.5", "5"):
        done = subprocess.run([sys.argv[1], *arguments, "--seconds", seconds], capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, (arguments, done.stderr)
        if json.loads(done.stdout)["operations"] > 0:
            return
    raise AssertionError(arguments)


cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
for discipline in DISCIPLINES:
    for workload in ("conn", "rr", "udp", "bulk"):
        worked(workload, "--discipline", *discipline, "--cpus", cpus, "--concurrency", "16", "--cross")
