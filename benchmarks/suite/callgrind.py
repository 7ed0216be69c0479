"""Instructions per operation by callgrind: the repeatable figure on a machine that others use too."""

import os
import re
import shutil
import tempfile

from netdtools.process import ToolError, run

from . import programs


def counted(side, seconds):
    """(instructions, operations) of one run of a Side's command under callgrind."""
    with tempfile.TemporaryDirectory(prefix="netd-callgrind-") as scratch:
        arguments = list(side.arguments)
        arguments[arguments.index("--seconds") + 1] = f"{seconds:g}"
        command = ["valgrind", "--tool=callgrind", "--fair-sched=yes", f"--callgrind-out-file={os.path.join(scratch, 'out')}",
                   str(programs.path_of(side.program)), *arguments]
        done = run(command, timeout=seconds + 60)
    total = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    operations = re.search(r'"operations":\s*(\d+)', done.stdout)
    if not total or not operations:
        raise ToolError("no figures from callgrind")
    return int(total.group(1)), int(operations.group(1))


def per_operation(side, quick):
    """The difference of a longer and a shorter run, so that set-up does not count; None where it cannot be had."""
    if not shutil.which("valgrind"):
        return None
    try:
        short, long = (counted(side, seconds) for seconds in ((0.5, 1.5) if quick else (1, 4)))
    except ToolError:
        return None
    return (long[0] - short[0]) / (long[1] - short[1]) if long[1] > short[1] else None
