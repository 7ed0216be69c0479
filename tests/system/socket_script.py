"""Socket calls whose results and errnos must be the same on netd as on the kernel: test_differential.py compares.

Usage: socket_script.py ADDRESS [CASE...]. Both ends are in this script, at ADDRESS. Prints one line of JSON per case:
its name and what it observed.
"""

import json
import signal
import sys

from cases import datagrams, descriptors, families, groups, names, readiness, streams  # noqa: F401 (each fills CASES)
from cases.ground import CASES


class Hang(Exception):
    pass


def hang(*_):
    raise Hang


def run(function):
    signal.signal(signal.SIGALRM, hang)
    signal.alarm(20)
    try:
        return function()
    except Hang:
        return "HANG"
    except Exception as error:  # whatever differs is a finding, not a crash of the script
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    wanted = set(sys.argv[2:])
    for function in CASES:
        if not wanted or function.__name__ in wanted:
            print(json.dumps([function.__name__, run(function)]), flush=True)
