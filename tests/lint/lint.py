"""The ground of the lint tests: the tracked sources, and a way to report every finding with its file and line.

Each test is one Python file with one function per rule; a finding says what to do instead.
"""

import functools
import pathlib
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
SOURCE_SUFFIXES = (".cpp", ".hpp", ".h", ".c")


@functools.cache
def tracked():
    """The files of the repository, or of an unpacked archive of it."""
    done = subprocess.run(["git", "-C", TOP, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True)
    if done.returncode == 0:
        names = done.stdout.splitlines()
    else:
        names = [str(path.relative_to(TOP)) for path in TOP.rglob("*") if path.is_file() and "build" not in path.parts]
    return sorted(pathlib.Path(name) for name in names if (TOP / name).is_file())


def sources(*suffixes):
    return [path for path in tracked() if path.suffix in (suffixes or SOURCE_SUFFIXES)]


@functools.cache
def text_of(path):
    return (TOP / path).read_text(errors="replace")


def lines_of(path):
    """(number, line) from 1."""
    return enumerate(text_of(path).splitlines(), 1)


def finish(findings):
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings")
    sys.exit(1 if findings else 0)
