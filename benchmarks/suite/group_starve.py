"""Group starve: bench-flood, what still happens in time while packets flood in, and the receive livelock curve; and
late_under_iperf, the same of timers and control calls while iperf3 moves bulk data through netd. A goal's row is the worse."""

import time

from netdtools import paths

from . import programs
from .figures import Unavailable, plot
from .plan import Task
from .printed import SPARE, objects_of, rows_of
from .rows import absent

UNDER_IPERF = "late_under_iperf"
PARTS = {"late.timer_p999": ("late.iperf3_reverse", "late.iperf3"), "late.control_p999": ("late.iperf3_reverse_control", "late.iperf3_control")}


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


def under_iperf(bench):
    """(rows, what went wrong or None)."""
    came, left = [], bench.end - SPARE - time.monotonic()
    if left < 5:
        return came, "no time was left"
    try:
        programs.lines(UNDER_IPERF, ["--seconds", 1 if bench.quick else 5], timeout=left, came=came, path=paths.TOP / "benchmarks" / UNDER_IPERF)
    except Unavailable as error:
        return came, str(error)
    return came, None


def worse(flood, beside, wrong):
    """A goal's row from that of the flood and those under iperf3 (None in a value: later than all bounds)."""
    told = [f"under iperf3{' -R' if 'reverse' in one['name'] else ''}: {'more than 10,000' if one['value'] is None else one['value']} us"
            for one in beside]
    why = "; ".join([f"flood: {flood['why']}", *told, *([f"iperf3: {wrong}"] if wrong else [])])
    worst = max([flood["value"], *(float(one["latest_since_start_us"]) if one["value"] is None else one["value"] for one in beside)])
    return {**flood, "value": worst, "low": min(flood["low"], worst), "high": max(flood["high"], worst), "why": why}


def late(bench):
    objects, wrong = objects_of("bench-flood", bench, ("--seconds", "5"))
    flood = {one["name"]: one for one in rows_of(objects)}
    beside, not_beside = under_iperf(bench)
    by_name = {one["name"]: one for one in rows_of(beside)}
    rows = [worse(flood[goal], [by_name[name] for name in names if name in by_name], not_beside) if goal in flood
            else absent(goal, wrong or "bench-flood printed no such row") for goal, names in PARTS.items()]
    return rows + [one if one["value"] is not None else {**one, "why": f"later than all bounds: {one['why']}"} for one in by_name.values()], \
        curves(objects)


def tasks():
    return [Task("starve", "timers and control calls under a flood, and under iperf3", tuple(PARTS), 80, 25, late, ("livelock.", "late.iperf3"))]
