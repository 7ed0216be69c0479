"""Instructions per operation by callgrind: the repeatable figure on a machine that others use too."""

import re
import shutil

from netdtools.process import ToolError, run

from . import programs
from .figures import Unavailable

# valgrind takes io_uring_enter for a call that does not block, and then waits in it for ever with its own lock held.
WAITER = ("--waiter", "epoll")


def counted(side, seconds, timeout):
    """(instructions, operations) of one run of a Side's command under callgrind, from its start to its end."""
    arguments = list(side.arguments)
    arguments[arguments.index("--seconds") + 1] = f"{seconds:g}"
    try:
        done = run(["valgrind", "--tool=callgrind", "--fair-sched=yes", "--callgrind-out-file=/dev/null",
                    programs.path_of(side.program), *arguments, *WAITER], timeout=timeout)
    except ToolError as error:
        raise Unavailable(f"callgrind: {str(error).splitlines()[-1]}") from None
    total = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    operations = re.search(r'"operations_in_all":\s*(\d+)', done.stdout)
    if not total or not operations:
        raise Unavailable("callgrind: no figures")
    return int(total.group(1)), int(operations.group(1))


def per_operation(side, quick, timeout):
    """The difference of a longer and a shorter run, so that set-up does not count; Unavailable where it cannot be had."""
    if not shutil.which("valgrind"):
        raise Unavailable("callgrind: valgrind is not installed")
    short, long = (counted(side, seconds, timeout / 2) for seconds in ((0.2, 0.8) if quick else (0.4, 1.4)))
    if long[1] <= short[1]:
        raise Unavailable("callgrind: the longer run did less")
    return (long[0] - short[0]) / (long[1] - short[1])
