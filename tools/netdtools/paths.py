"""Where things are: the source tree, the build they come from (made on first use) and the state of what is running."""

import os
import pathlib
import subprocess
import sys

from .process import ToolError

TOP = pathlib.Path(__file__).resolve().parents[2]

PROGRAMS = {"netd": "netd/netd", "netctl": "netd/netctl", "netrun": "client/preload/netrun"}


def build_dir():
    """build/release, or the build directory that NETD_BUILD names (the tests of one build test that build)."""
    return pathlib.Path(os.environ.get("NETD_BUILD") or TOP / "build" / "release").resolve()


def program(name):
    path = build_dir() / PROGRAMS[name]
    if not path.exists():
        raise ToolError(f"{path} is not built; run tools/build")
    return path


def ensure_built(*targets, quiet=True, kind="release"):
    """Brings build/KIND up to date; a directory that NETD_BUILD names is taken as it is."""
    if os.environ.get("NETD_BUILD"):
        return
    if not (TOP / "build" / kind / PROGRAMS["netd"]).exists():
        print(f"building build/{kind} first, this takes some minutes", file=sys.stderr, flush=True)
        quiet = False
    command = [TOP / "tools" / "build", kind, *(targets or ["programs"])]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if quiet else sys.stderr,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise ToolError((done.stdout or "") + f"the build of build/{kind} failed")


def state_root():
    return pathlib.Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")


def private_directory(path):
    """Makes a directory that only we can use; one that is there already must be ours (state_root may be shared)."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if path.is_symlink() or not path.is_dir() or found.st_uid != os.getuid():
            raise ToolError(f"{path} is in the way and is not a directory of this user") from None
    return path
