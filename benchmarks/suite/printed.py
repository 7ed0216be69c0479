"""Tasks whose program measures and judges by itself: it prints rows as they go into the JSON, and points of curves."""

import time

from . import programs
from .figures import Unavailable
from .plan import Task
from .rows import absent, row


SPARE = 2.0  # seconds before the task is ended in which its program is, so that what it printed counts


def objects_of(program, bench, arguments):
    """(objects, what went wrong or None): a program that fails late has still measured what it printed before."""
    came = []
    try:
        programs.lines(program, [*arguments, *(["--quick"] if bench.quick else [])],
                       timeout=max(1.0, bench.end - SPARE - time.monotonic()), came=came)
    except Unavailable as error:
        return came, str(error)
    return came, None


def rows_of(objects):
    """A single measurement is its own lowest and highest."""
    return [row(**{"unit": "", "low": one["value"], "high": one["value"], "runs": 1, **one})
            for one in objects if "name" in one and "value" in one]


def printing(group, title, program, names, seconds, seconds_quick, prefix=(), curves=lambda objects: [], arguments=()):
    """A task for `program`; `curves` makes the series out of all its objects, `prefix` (or several) begins its other rows.

    `arguments`: a tuple, or a function of the Bench that makes it.
    """

    def run(bench):
        objects, wrong = objects_of(program, bench, arguments(bench) if callable(arguments) else arguments)
        rows = rows_of(objects)
        have = {one["name"] for one in rows}
        return rows + [absent(name, wrong) for name in names if wrong and name not in have], curves(objects)

    return Task(group, title, tuple(names), seconds, seconds_quick, run, prefix)
