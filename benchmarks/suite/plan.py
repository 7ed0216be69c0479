"""What a run does: tasks of groups, chosen by name, each with an estimate; and the time that they may take.

A group may use its own time and what the groups before it left. A task that would begin later is not begun; its rows
say so. Within a task the rounds are cut short when its share is over (figures.alternate); a task that goes on for
longer, because a program hangs, is ended by an alarm with all that it runs, and so are its rows. Whoever interrupts the
run gets the rows that there are.
"""

import contextlib
import dataclasses
import signal
import sys
import time
import traceback
import typing

from .figures import Unavailable
from .rows import BY_NAME, GROUPS, absent, judged, shown

# Seconds per group: 44 minutes, and less than 5 for a quick run with its last task's grace.
BUDGET = {"micro": 140, "stack": 860, "compare": 1045, "apps": 385, "starve": 110, "scale": 100}
BUDGET_QUICK = {"micro": 32, "stack": 110, "compare": 71, "apps": 39, "starve": 22, "scale": 8}
GRACE, GRACE_QUICK = 30, 12  # after its deadline a task is ended
STARTED = time.monotonic()


class Overrun(BaseException):
    """A task did not end. Not an Exception, so that nobody on the way takes it for a side that failed."""


@contextlib.contextmanager
def alarm(end):
    """Raises Overrun in the body at that time, and again should what it cleans up then hang."""
    def ring(*_):
        raise Overrun

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, end - time.monotonic()), 10)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def say(text):
    print(f"[{elapsed():6.1f} s] {text}", file=sys.stderr, flush=True)


@dataclasses.dataclass
class Task:
    """`run(bench)` returns (rows, series). `names`: the rows it yields that stand in the goals table."""

    group: str
    title: str
    names: tuple
    seconds: float
    seconds_quick: float
    run: typing.Callable
    prefix: str | tuple = ()  # beginnings of rows beside the goals'

    def estimate(self, quick):
        return self.seconds_quick if quick else self.seconds

    def beside(self):
        return (self.prefix,) if isinstance(self.prefix, str) and self.prefix else tuple(self.prefix)

    def wanted(self, given):
        """Does a NAME of the command line (a group, a row or the beginning of one) ask for this?"""
        return given == self.group or any(name.startswith(given) for name in (*self.names, *self.beside())) or given.startswith(self.beside())


@dataclasses.dataclass
class Bench:
    """What a task may know of its run."""

    quick: bool
    cleanup: object         # ExitStack of the run
    deadline: float = 0.0   # of the running task: no round begins after it
    end: float = 0.0        # then the task is ended
    interrupted: bool = False
    found: dict = dataclasses.field(default_factory=dict)  # rows so far, by name
    pace: float = 1.0       # of the time that the plan gives, what this run may take
    shared: dict = dataclasses.field(default_factory=dict)  # what several tasks use, made by the first

    def rounds(self, full):
        return 3 if self.quick else full


def elapsed():
    return time.monotonic() - STARTED


def chosen(tasks, names):
    unknown = [name for name in names if not any(task.wanted(name) for task in tasks)]
    return [task for task in tasks if not names or any(task.wanted(name) for name in names)], unknown


def pace_of(minutes, quick):
    """What a run of so many minutes may take of the time that the plan gives (None: all of it)."""
    return minutes * 60 / sum((BUDGET_QUICK if quick else BUDGET).values()) if minutes else 1.0


def text_of(tasks, quick, pace=1.0):
    """The plan, a line per task, with estimates."""
    out = []
    for group in GROUPS:
        of_group = [task for task in tasks if task.group == group]
        if of_group:
            limit = (BUDGET_QUICK if quick else BUDGET)[group] * pace
            out.append(f"{group}: about {sum(task.estimate(quick) for task in of_group) * pace:.0f} s, at most {limit:.0f} s and what is left before it")
            out += [f"    {task.title} ({task.estimate(quick) * pace:.0f} s): {', '.join(task.names or (name + '*' for name in task.beside()))}" for task in of_group]
    total = sum(task.estimate(quick) for task in tasks) * pace
    return "\n".join([*out, f"together about {total / 60:.1f} minutes"])


def attempt(task, bench):
    """(rows, series, why rows may be missing, what there is to tell) of one task."""
    begin = time.monotonic()
    try:
        with alarm(bench.end):
            return *task.run(bench), "the program printed no such row", None
    except Unavailable as error:
        return [], [], str(error), None if task.names else f"nothing: {error}"
    except Overrun:
        why = f"ended after {time.monotonic() - begin:.0f} s, its time being over long ago"
        return [], [], why, why
    except (KeyboardInterrupt, SystemExit):
        bench.interrupted = True
        return [], [], "the run was interrupted", "interrupted"
    except Exception as error:  # a mistake of ours costs its rows and not the run
        traceback.print_exc()
        return [], [], f"the suite itself failed: {type(error).__name__}: {error}", None


def execute(tasks, bench, tell=say):
    """Runs the tasks in order; (rows, series). Every row that a task names appears, whatever happens to the task."""
    budget, grace = (BUDGET_QUICK, GRACE_QUICK) if bench.quick else (BUDGET, GRACE)
    rows, series = [], []
    group_end = time.monotonic()
    group = None
    for number, task in enumerate(tasks, 1):
        if task.group != group:
            group = task.group
            group_end += budget[group] * bench.pace
        now = time.monotonic()
        estimate = task.estimate(bench.quick) * bench.pace
        bench.deadline = min(group_end, now + 2 * estimate)
        bench.end = bench.deadline + grace
        made, more, told = [], [], None
        if bench.interrupted:
            why = "the run was interrupted"
        elif now + 0.3 * estimate > group_end:
            why = told = f"the time of group {group} was used up"
        else:
            tell(f"{number}/{len(tasks)} {task.group}: {task.title}")
            made, more, why, told = attempt(task, bench)
        if told:
            tell(told)
        have = {one["name"] for one in made}
        made += [absent(name, why) for name in task.names if name not in have]
        made = [judged(one, group) for one in made]
        for one in made:
            bench.found[one["name"]] = one
            if not bench.interrupted:
                tell(shown(one))
        rows += made
        series += [{**one, "group": group} for one in more]
    order = {name: place for place, name in enumerate(BY_NAME)}
    rows.sort(key=lambda one: (GROUPS.index(one["group"]), order.get(one["name"], len(order))))
    return rows, series
