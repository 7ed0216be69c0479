"""The goodput grid: ours against the kernel's CUBIC through the same simulated link, cell by cell.

Ours runs in virtual time, the kernel's flows in real time between two namespaces whose TAPs the same link joins, several
cells at once. What ours got tells how many: together no more than RATE_TOGETHER, so that no CPU is the limit. Two cells
are measured of ours in real time, behind TAPs and through the same relay, to show that virtual time tells the same.
"""

import concurrent.futures
import itertools
import os
import statistics
import threading
import time

from netdtools.process import ToolError

from . import goodput_lane, programs
from .figures import Unavailable, plot
from .plan import Task
from .rows import rounded, row

LOSSES = (0, 0.001, 0.01, 0.03, 0.1)
RTTS_US = (100, 1000, 10000, 50000, 200000)
FLOWS = (1, 8, 64)
QUICK = ((0, 1000, 1), (0.01, 10000, 8), (0.1, 50000, 64), (0.03, 200000, 1))
REAL = ((0, 10000, 1), (0.01, 10000, 8))
NAMES = ("goodput.cells_at_least_kernel", "goodput.cells_ahead")
OTHERS = ("bbr", "westwood")  # algorithms of ours that are counted as well
FRACTION = "fraction"
AHEAD = 1.1
SLOW_MBIT = 20  # cells that carry less spread more, and cost less: more seeds
RATE_TOGETHER = 400
RATE_OF_A_LANE = 4  # what one costs that carries nothing
LANES = 16


def cells(quick):
    return QUICK if quick else tuple(itertools.product(LOSSES, RTTS_US, FLOWS))


def name_of(cell):
    loss, rtt_us, flows = cell
    return f"goodput.loss{loss * 100:g}.rtt{rtt_us / 1000:g}.flows{flows}"


def arguments(cell, seed, seconds, congestion="cubic"):
    loss, rtt_us, flows = cell
    return ["--loss", loss, "--rtt-us", rtt_us, "--flows", flows, "--seed", seed, "--seconds", seconds, "--congestion", congestion]


def virtual(grid, seeds, seconds, congestion="cubic"):
    """cell -> what ours got, one object a seed."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = {cell: [pool.submit(programs.one, goodput_lane.PROGRAM, ["virtual", *arguments(cell, seed, seconds, congestion)])
                        for seed in range(1, seeds + 1)] for cell in grid}
        return {cell: [future.result() for future in futures] for cell, futures in found.items()}


def mean(results):
    return statistics.mean(one["value"] for one in results)


class Kernel:
    """The kernel's cells, as many at once as the rates allow."""

    def __init__(self, free, seconds, deadline):
        self.free, self.seconds, self.deadline = list(free), seconds, deadline
        self.changed = threading.Condition()
        self.rate = 0.0
        self.most = 0
        self.found = {}
        self.failed = None

    def run(self, plan):
        """`plan`: [(cell, seed, expected rate)]."""
        todo = sorted(plan, key=lambda one: -one[2])
        threads = []
        while todo and not self.failed and time.monotonic() + self.seconds < self.deadline:
            with self.changed:
                fits = next((one for one in todo if self.free and self.rate + one[2] <= RATE_TOGETHER), None)
                if fits is None:
                    self.changed.wait(1)
                    continue
                todo.remove(fits)
                lane = self.free.pop()
                self.rate += fits[2]
                self.most = max(self.most, len(threads) - sum(not thread.is_alive() for thread in threads) + 1)
            threads.append(threading.Thread(target=self.one, args=(lane, *fits)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        if self.failed:
            raise Unavailable(self.failed)
        return self.found

    def one(self, lane, cell, seed, rate):
        try:
            got = lane.measure("kernel", arguments(cell, seed, self.seconds), self.seconds + 20)
            why = None if got["refused"] == 0 else f"{name_of(cell)}: {got['refused']} frames were lost beside the link"
        except (Unavailable, ToolError) as error:
            got, why = None, str(error).splitlines()[0]
        with self.changed:
            if why:
                self.failed = why
            else:
                self.found.setdefault(cell, []).append(got)
            self.free.append(lane)
            self.rate -= rate
            self.changed.notify()


def kernel_plan(ours, seeds_fast, seeds_slow):
    plan = []
    for cell, results in ours.items():
        rate = mean(results)
        plan += [(cell, seed, rate + RATE_OF_A_LANE) for seed in range(1, (seeds_slow if rate < SLOW_MBIT else seeds_fast) + 1)]
    return plan


def cell_row(cell, ours, kernel):
    mine, theirs = mean(ours), mean(kernel)
    if not theirs:
        raise Unavailable(f"{name_of(cell)}: the kernel's connections carried nothing")
    low = min(one["value"] for one in ours) / max(one["value"] for one in kernel)
    least = min(one["value"] for one in kernel)
    high = max(one["value"] for one in ours) / (least or theirs)
    why = f"ours {mine:.4g} Mbit/s, mean of {len(ours)} seeds; kernel {theirs:.4g}, mean of {len(kernel)}"
    return row(name_of(cell), "ratio", rounded(mine / theirs), rounded(low), rounded(high), len(kernel), why)


def curves(rows):
    """A plot for each number of flows, a line for each loss."""
    series = []
    for flows in FLOWS:
        lines = {}
        for cell, one in rows.items():
            if cell[2] == flows:
                lines.setdefault(f"loss {cell[0] * 100:g} %", []).append([cell[1] / 1000, one["value"]])
        if lines:
            series.append(plot(f"goodput.flows{flows}", f"Goodput of {flows} flows, ours : kernel's CUBIC", "round trip in ms", "ratio", lines,
                               "bench-goodput, 100 Mbit/s, a queue of one bandwidth-delay product", log_x=True))
    return series


def summed_up(names, values, wanted, why):
    """The two fractions of the grid, of `values`, which has a ratio for each cell's name. A link that both fill gives
    0.999 or 1.001: what counts is the ratio to two places. A part of the grid, begun with the cells that carry most,
    says nothing of the whole."""
    if len(values) < wanted:
        return [row(name, FRACTION, why=f"{len(values)} of {wanted} cells were measured before the time was used up") for name in names]
    ratios = [round(value, 2) for value in values.values()]
    behind = sorted((rounded(value), name) for name, value in values.items() if round(value, 2) < 1)
    told = ", ".join(f"{name.removeprefix('goodput.')} {value}" for value, name in behind)
    found = []
    for name, count, more in ((names[0], sum(ratio >= 1 for ratio in ratios), f"behind: {told or 'none'}"),
                              (names[1], sum(ratio >= AHEAD for ratio in ratios), f"median of the ratios {statistics.median(ratios):.3g}")):
        value = rounded(count / len(ratios))
        found.append(row(name, FRACTION, value, value, value, 1, f"{len(values)} of {wanted} cells; {why}; {more}"))
    return found


def names_of(algorithm):
    return tuple(name.replace("goodput.", f"goodput.{algorithm}.") for name in NAMES)


def other_rows(algorithm, ours, got, kernel, wanted):
    """What another algorithm of ours got in the same cells, and against the kernel's CUBIC; no part of the goals."""
    for cell, results in got.items():
        yield row(f"goodput.{algorithm}.{name_of(cell).removeprefix('goodput.')}", "Mbit/s", rounded(mean(results)),
                  why=f"CUBIC of ours: {mean(ours[cell]):.4g}")
    ratios = {name_of(cell): mean(results) / mean(kernel[cell]) for cell, results in got.items() if cell in kernel}
    yield from summed_up(names_of(algorithm), ratios, wanted, f"{algorithm} of ours, CUBIC of the kernel's")


def beside_the_grid(lane, ours, theirs, wanted, seconds, deadline):
    yield from real_rows(lane, ours, seconds)
    for algorithm in OTHERS:
        if time.monotonic() > deadline: # what is not part of the goals must not cost the grid
            return
        yield from other_rows(algorithm, ours, virtual(wanted, 1, seconds, algorithm), theirs, len(wanted))


def real_rows(lane, ours, seconds):
    """Ours in real time over TAPs, against itself in virtual time."""
    lane.add_hosts()
    for cell in REAL:
        if cell in ours:
            got = lane.measure("tap", arguments(cell, 1, seconds), seconds + 20)
            yield row(f"goodput.real_to_virtual.{name_of(cell).removeprefix('goodput.')}", "ratio", rounded(got["value"] / mean(ours[cell])),
                      why=f"ours over TAPs in real time {got['value']:.4g} Mbit/s, in virtual time {mean(ours[cell]):.4g}")


def grid(bench):
    seconds = 4 if bench.quick else 10
    wanted = cells(bench.quick)
    reason = goodput_lane.why_not_possible()
    if reason:
        raise Unavailable(reason)
    ours = virtual(wanted, 2 if bench.quick else 6, seconds)
    try:
        lanes = goodput_lane.lanes(min(LANES, 2 * len(wanted)), os.getpid(), bench.cleanup)
        kernel = Kernel(lanes, seconds, bench.deadline)
        theirs = kernel.run(kernel_plan(ours, 1, 2) if bench.quick else kernel_plan(ours, 2, 6))
        rows = {cell: cell_row(cell, ours[cell], theirs[cell]) for cell in wanted if cell in theirs}
        beside = [] if bench.quick else list(beside_the_grid(lanes[0], ours, theirs, wanted, seconds, bench.deadline))
    except ToolError as error:
        raise Unavailable(str(error).splitlines()[0]) from None
    if not rows:
        raise Unavailable("no time was left for a single cell")
    ratios = {one["name"]: one["value"] for one in rows.values()}
    return [*summed_up(NAMES, ratios, len(wanted), f"up to {kernel.most} kernel cells at once"), *rows.values(), *beside], curves(rows)


def tasks():
    return [Task("compare", "goodput through an impaired link", NAMES, 345, 18, grid, "goodput.")]
