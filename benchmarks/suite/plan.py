"""What a run does: tasks of groups, chosen by name, each with an estimate; and the time that they may take.

A group may use its own time and what the groups before it left. A task that would begin later is not begun; its rows
say so. Within a task the rounds are cut short when its share is over (figures.alternate).
"""

import dataclasses
import sys
import time
import traceback
import typing

from .figures import Unavailable
from .rows import BY_NAME, GROUPS, WAITS, absent, judged, shown

# Seconds per group: 43 minutes, and under 5 for a quick run.
BUDGET = {"micro": 300, "stack": 960, "compare": 480, "apps": 540, "starve": 180, "scale": 120}
BUDGET_QUICK = {"micro": 30, "stack": 90, "compare": 60, "apps": 40, "starve": 55, "scale": 10}
STARTED = time.monotonic()


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
    prefix: str = ""  # of rows beside the goals'

    def estimate(self, quick):
        return self.seconds_quick if quick else self.seconds

    def wanted(self, given):
        """Does a NAME of the command line (a group, a row or the beginning of one) ask for this?"""
        return given == self.group or any(name.startswith(given) for name in (*self.names, self.prefix) if name) or \
            bool(self.prefix) and given.startswith(self.prefix)


@dataclasses.dataclass
class Bench:
    """What a task may know of its run."""

    quick: bool
    cleanup: object         # ExitStack of the run
    deadline: float = 0.0   # of the running task
    found: dict = dataclasses.field(default_factory=dict)  # rows so far, by name
    shared: dict = dataclasses.field(default_factory=dict)  # what several tasks use, made by the first

    def rounds(self, full):
        return 3 if self.quick else full


def waiting(group, names):
    """The rows that nothing measures yet."""
    return Task(group, "not measured yet", tuple(names), 0, 0, lambda bench: ([absent(name, f"waits for: {WAITS[name]}") for name in names], []))


def elapsed():
    return time.monotonic() - STARTED


def chosen(tasks, names):
    unknown = [name for name in names if not any(task.wanted(name) for task in tasks)]
    return [task for task in tasks if not names or any(task.wanted(name) for name in names)], unknown


def text_of(tasks, quick):
    """The plan, a line per task, with estimates."""
    out = []
    for group in GROUPS:
        of_group = [task for task in tasks if task.group == group]
        if of_group:
            limit = (BUDGET_QUICK if quick else BUDGET)[group]
            out.append(f"{group}: about {sum(task.estimate(quick) for task in of_group):.0f} s, at most {limit} s and what is left before it")
            out += [f"    {task.title} ({task.estimate(quick):.0f} s): {', '.join(task.names) or task.prefix + '*'}" for task in of_group]
    total = sum(task.estimate(quick) for task in tasks)
    return "\n".join([*out, f"together about {total / 60:.1f} minutes"])


def execute(tasks, bench, tell=say):
    """Runs the tasks in order; (rows, series). Every row that a task names appears, whatever happens to the task."""
    budget = BUDGET_QUICK if bench.quick else BUDGET
    rows, series = [], []
    group_end = time.monotonic()
    group = None
    for number, task in enumerate(tasks, 1):
        if task.group != group:
            group = task.group
            group_end += budget[group]
        now = time.monotonic()
        bench.deadline = min(group_end, now + 2 * task.estimate(bench.quick))
        tell(f"{number}/{len(tasks)} {task.group}: {task.title}")
        made, more = [], []
        if now + 0.3 * task.estimate(bench.quick) > group_end:
            why = f"the time of group {group} was used up"
        else:
            try:
                made, more = task.run(bench)
                why = "the program printed no such row"
            except Unavailable as error:
                why = str(error)
                if not task.names:
                    tell(f"nothing: {why}")
            except Exception as error:  # a mistake of ours costs its rows and not the run
                traceback.print_exc()
                why = f"the suite itself failed: {type(error).__name__}: {error}"
        have = {one["name"] for one in made}
        made += [absent(name, why) for name in task.names if name not in have]
        made = [judged(one, group) for one in made]
        for one in made:
            bench.found[one["name"]] = one
            tell(shown(one))
        rows += made
        series += [{**one, "group": group} for one in more]
    order = {name: place for place, name in enumerate(BY_NAME)}
    rows.sort(key=lambda one: (GROUPS.index(one["group"]), order.get(one["name"], len(order))))
    return rows, series
