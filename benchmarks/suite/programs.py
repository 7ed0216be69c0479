"""The C++ programs of benchmarks/: one run prints JSON objects, one a line."""

import json
import subprocess

from netdtools import paths
from netdtools.process import run_group

from .figures import Unavailable


REASONS = {}  # program -> why this build has none, where that is known


def places(program):
    """Where the build puts it: the folder, or one below it."""
    folder = paths.build_dir() / "benchmarks"
    return [folder / program, *folder.glob(f"*/{program}")]


def path_of(program):
    path = next((path for path in places(program) if path.exists()), None)
    if path is None:
        raise Unavailable(REASONS.get(program) or f"waits for: {program} (not in this build)")
    return path


def lines(program, arguments=(), prefix=(), timeout=60.0, came=None, path=None):
    """The objects that the program prints; any failure of it is Unavailable.

    `path`: where it is, when the build does not make it. With a list `came` the objects also land there as far as the program came before it failed.
    """
    command = [*prefix, str(path or path_of(program)), *map(str, arguments)]
    said = " ".join([program, *map(str, arguments)])
    try:
        done = run_group(command, timeout)
        output, errors, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as late:
        output, errors, code = late.stdout or "", f"no end within {timeout:.0f} s", None
    except OSError as error:
        raise Unavailable(f"{said}: {error.strerror}") from None
    found = []
    for line in output.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            pass
    if came is not None:
        came += found
    if code != 0:
        told = [line for line in errors.splitlines() if line.strip() and not line.startswith("Run with --help")]
        reason = told[-1].strip() if told else "no message"
        raise Unavailable(f"{said}: {reason}" + (f" (exit code {code})" if code is not None else ""))
    return found


def one(program, arguments=(), prefix=(), timeout=60.0):
    """The single object of a program that measures one thing."""
    found = lines(program, arguments, prefix, timeout)
    if len(found) != 1 or not isinstance(found[0].get("value"), (int, float)):
        raise Unavailable(f"{program} printed {len(found)} results where one with a value was expected")
    return found[0]

