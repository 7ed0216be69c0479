"""How figures come about: rounds that alternate between the sides, medians with the lowest and the highest."""

import statistics
import time

from .rows import RATIO, rounded, row


class Unavailable(Exception):
    """A figure that cannot be had here; its text is the `why` of the row."""


def alternate(sides, rounds, deadline=None, rounds_min=3):
    """Calls every side once per round, in an order that turns; side -> results, one per round.

    Past the deadline (of time.monotonic) no round begins, once there are `rounds_min`.
    """
    found = {name: [] for name in sides}
    longest = 0.0
    for turn in range(rounds):
        start = time.monotonic()
        if deadline and turn >= rounds_min and start + longest > deadline:
            break
        for name in list(sides) if turn % 2 == 0 else reversed(list(sides)):
            found[name].append(sides[name]())
        longest = max(longest, time.monotonic() - start)
    return found


def ratio_row(name, ours, theirs, why, **more):
    """The row of the ratios of two sides, taken round by round.

    A round in which the other side did nothing has no ratio, and is told; half of them, and the side has failed.
    """
    rounds = list(zip(ours, theirs))
    ratios = [mine / other for mine, other in rounds if other]
    without = len(rounds) - len(ratios)
    if 2 * without >= len(rounds):
        raise Unavailable("the other side did nothing" + (f" in {without} of {len(rounds)} rounds" if ratios else ""))
    why += f"; {without} of {len(rounds)} rounds, in which the other side did nothing, do not count" if without else ""
    return row(name, RATIO, rounded(statistics.median(ratios)), rounded(min(ratios)), rounded(max(ratios)), len(ratios), why, **more)


def best(found):
    """The name of the side with the highest median; `found` as alternate() returns it, of numbers."""
    return max(found, key=lambda name: statistics.median(found[name]))


def plot(name, title, x, y, lines, how, log_x=False, log_y=False):
    """A curve for the report. `lines`: name -> [[x, y] or [x, y, low, high], ...]; `x`, `y`: axis labels with units."""
    return {"name": name, "title": title, "x": x, "y": y, "how": how, "log_x": log_x, "log_y": log_y,
            "lines": [{"name": line, "points": points} for line, points in lines.items()]}


def number(value):
    """A rate or a count for a sentence: 1,234,567 or 0.123."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
