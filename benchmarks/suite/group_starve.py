"""Group starve: bench-flood, what still happens in time while packets flood in; and the receive livelock curve."""

from .figures import plot
from .printed import printing


def curves(objects):
    lines = {}
    for one in objects:
        if "offered" in one and "goodput" in one:
            lines.setdefault(one["name"], []).append([one["offered"], one["goodput"]])
    if not lines:
        return []
    return [plot("starve.livelock", "Receive livelock: goodput over offered load", "offered packets per second",
                 "goodput in packets per second", {name: sorted(points) for name, points in lines.items()},
                 "bench-flood: one run per offered load")]


def tasks():
    return [printing("starve", "timers and control calls under a flood", "bench-flood", ("late.timer_p999", "late.control_p999"),
                     150, 30, "livelock.", curves)]
