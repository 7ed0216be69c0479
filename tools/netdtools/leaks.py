"""What netd still holds, as netctl tells it."""

from . import process
from .process import run


def sockets(bed):
    """netctl's socket list as text lines, without its heading."""
    lines = run(bed.netctl("ss")).stdout.splitlines()
    return [line for line in lines[1:] if line.strip()]


def sockets_held(bed, patience=5.0):
    """The sockets that programs hold, once they had time to go; TIME-WAIT is the protocol's, not a program's."""
    left = []

    def none_left():
        nonlocal left
        left = [line for line in sockets(bed) if "TIME-WAIT" not in line.replace("_", "-").upper()]
        return not left

    process.wait_until(none_left, patience, step=0.2)
    return left
