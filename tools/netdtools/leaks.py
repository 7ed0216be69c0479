"""What netd still holds, as netctl tells it."""

import json

from . import process
from .process import run


def sockets(bed):
    """netctl's socket list: one dictionary a socket."""
    return json.loads(run(bed.netctl("ss", "--json")).stdout)["sockets"]


def counters(bed):
    """netctl's counters: name -> total over the CPUs."""
    found = json.loads(run(bed.netctl("stat", "--json")).stdout)["counters"]
    return {name: value["total"] for name, value in found.items()}


def is_time_wait(socket):
    return socket["state"].upper().replace("_", "-") == "TIME-WAIT"


def held(bed, patience=5.0):
    """What is held for programs that had time to go, as lines of text. TIME-WAIT is the protocol's, not a program's."""
    left = []

    def none_left():
        nonlocal left
        left = [json.dumps(socket) for socket in sockets(bed) if not is_time_wait(socket)]
        values = counters(bed)
        left += [f"{name}: {values[name]}" for name in ("clients", "ring_bytes") if values[name] != 0]
        return not left

    process.wait_until(none_left, patience, step=0.2)
    return left
