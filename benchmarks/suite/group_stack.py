"""Group stack: netd's stack without a device, with itself on other CPUs and disciplines, with the kernel and with lwIP.

Every figure is an invocation of bench-stack or bench-lwip on its own; the sides of a ratio take turns, round by round.
"""

import statistics
import time

from . import machine, programs
from .callgrind import per_operation
from .figures import Unavailable, alternate, best, plot, ratio_row
from .plan import Task
from .printed import printing
from .rows import BY_NAME, absent
from .stack_run import CPUS_ONE, CPUS_TWO, TOLD, embed, kernel, lwip

WORKLOADS = ("conn", "rr", "bulk", "udp")
CONCURRENCY = 256  # two CPUs: enough for batches, few enough for every cache
CONCURRENCY_UP = 1000  # the goals table says so
LOCKS = ("mutex", "spin", "queue")
CURVE = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)


def measuring(bench):
    """Seconds of one invocation."""
    return 0.25 if bench.quick else 1.0


def smp(bench):
    """2 CPUs against 1 under messages, each workload; the bare spin ratio is measured around them."""
    programs.path_of("bench-stack")
    rows, spins, missing = [], [machine.spin_ratio(bench.quick)], []
    workloads = ("conn", "rr", "udp")
    for part, workload in enumerate(workloads):
        sides = {cpus: embed(workload, measuring(bench), cpus, concurrency=CONCURRENCY) for cpus in (CPUS_ONE, CPUS_TWO)}
        try:
            found = alternate(sides, bench.rounds(9), share(bench, part, len(workloads)))
        except Unavailable as error:
            missing.append(absent(f"ratio.smp_{workload}", str(error)))
            continue
        spins.append(machine.spin_ratio(bench.quick))
        why = f"2 CPUs {sides[CPUS_TWO].told()}; 1 CPU {sides[CPUS_ONE].told()}"
        rows.append(ratio_row(f"ratio.smp_{workload}", found[CPUS_TWO], found[CPUS_ONE], why))
    bare = [one[0] for one in spins if one]
    text = f"; two bare spinning processes here: {min(bare):.2f} to {max(bare):.2f}" if bare else ""
    for one in rows:
        one["why"] += text
        one["bare_spin_ratio"] = round(statistics.median(bare), 3) if bare else None
    return rows + missing, []


def share(bench, part, parts):
    """The deadline of a part of the running task, when its parts may take equal time."""
    return time.monotonic() + (bench.deadline - time.monotonic()) / (parts - part)


# Disciplines ---------------------------------------------------------------------------------------------------------


def heats(workload, seconds):
    """Family -> its sides by name; of a family of locks only the best goes on after a first round or two."""
    def of(**what):
        return embed(workload, seconds, concurrency=CONCURRENCY, **what)

    return {
        "message": {"message": of()},
        "inline": {"inline": of(discipline="inline")},
        "giant": {f"giant {lock}": of(discipline="giant", lock=lock) for lock in LOCKS},
        "striped": {f"striped {lock}": of(discipline="striped", lock=lock, locks=1) for lock in LOCKS},
        "striped, 3 locks": {f"striped {lock}, 3 locks": of(discipline="striped", lock=lock, locks=3) for lock in LOCKS},
    }


def tournament(bench, workload, deadline):
    """Family -> (side, values of its rounds); a family that cannot run here -> the reason."""
    entered, reasons = {}, {}
    for family, sides in heats(workload, measuring(bench)).items():
        able = {}
        for name, side in sides.items():
            try:
                side()
                able[name] = side
            except Unavailable as error:
                reasons[family] = str(error)
        if able:
            name = best({name: [one["value"] for one in side.results] for name, side in able.items()})
            entered[family] = (name, able[name])
            able[name].results.clear()
    found = alternate({family: side for family, (_, side) in entered.items()}, bench.rounds(7), deadline)
    return {family: (*entered[family], found[family]) for family in entered}, reasons


VERSUS = {"ratio.message_vs_giant": ("message", "giant"), "ratio.message_vs_striped": ("message", "striped"),
          "ratio.inline_vs_message": ("inline", "message")}


def disciplines(bench):
    programs.path_of("bench-stack")
    outcomes = {}
    reasons = {}
    for part, workload in enumerate(WORKLOADS):
        try:
            outcomes[workload], missing = tournament(bench, workload, share(bench, part, len(WORKLOADS)))
        except Unavailable as error:
            outcomes[workload], missing = {}, {family: str(error) for family in ("message", "giant", "striped", "inline")}
        for family, reason in missing.items():
            if family not in outcomes[workload]:
                reasons.setdefault((workload, family), reason)
    rows = []
    for name, (ours, theirs) in VERSUS.items():
        found, lacking = [], None
        for workload, outcome in outcomes.items():
            for family in (ours, theirs):
                lacking = lacking or reasons.get((workload, family))
            if ours in outcome and theirs in outcome:
                mine, other = outcome[ours], outcome[theirs]
                found.append((workload, ratio_row(name, mine[2], other[2], f"{mine[0]} {mine[1].told()}; {other[0]} {other[1].told()}")))
        if lacking:
            rows.append(absent(name, lacking))
        else:
            rows.append(smallest(found))
    return rows, discipline_bars(outcomes)


def smallest(found):
    """The row of the workload with the smallest ratio; its `why` has the ratios of the others."""
    workload, row = min(found, key=lambda one: one[1]["value"])
    each = ", ".join(f"{other} {one['value']:.3g}" for other, one in found)
    return {**row, "why": f"smallest of {each}; {workload}: {row['why']}", "workload": workload}


def discipline_bars(outcomes):
    """Throughput of every discipline relative to messages, as points over the workloads."""
    lines = {}
    for place, (workload, outcome) in enumerate(outcomes.items()):
        if "message" not in outcome:
            continue
        for family, (_, _, values) in outcome.items():
            ratios = [value / base for value, base in zip(values, outcome["message"][2]) if base]
            if ratios:
                lines.setdefault(family, []).append([place, statistics.median(ratios), min(ratios), max(ratios)])
    if not lines:
        return []
    series = plot("stack.disciplines", "Disciplines on 2 CPUs, the best lock of each", "workload", "throughput relative to message", lines,
                  "bench-stack, rounds in turn; median with the lowest and the highest")
    return [{**series, "ticks": list(outcomes)}]


# One CPU -------------------------------------------------------------------------------------------------------------


def up(bench):
    """What messages cost where there is nothing to share: one CPU, 1,000 operations at a time."""
    found = []
    workloads = ("conn", "rr", "udp")
    for part, workload in enumerate(workloads):
        sides = {discipline: embed(workload, measuring(bench), CPUS_ONE, discipline, concurrency=CONCURRENCY_UP)
                 for discipline in ("message", "inline")}
        values = alternate(sides, bench.rounds(7), share(bench, part, len(workloads)))
        why = "; ".join(f"{discipline} {side.told()}" for discipline, side in sides.items())
        found.append((workload, ratio_row("ratio.message_vs_inline_up", values["message"], values["inline"], why)))
    return [smallest(found)], []


def up_curve(bench):
    """Counters and instructions per operation under messages on one CPU, over the operations in progress."""
    points = CURVE[::3] + (CURVE[-1],) if bench.quick else CURVE
    lines = {}
    instructions = []
    not_counted = ended = None
    left = list(dict.fromkeys(points))
    while left and time.monotonic() < bench.deadline:
        concurrency = left.pop(0)
        side = embed("rr", measuring(bench), CPUS_ONE, concurrency=concurrency)
        try:
            side()
        except Unavailable as error:
            if not lines:
                raise
            ended = str(error)
            break
        for name, value in side.per_operation().items():
            if name.startswith(TOLD):
                lines.setdefault(name.replace("_", " "), []).append([concurrency, value])
        try:
            if not not_counted:
                share = max(5.0, (bench.deadline - time.monotonic()) / (len(left) + 1))
                instructions.append([concurrency, per_operation(side, bench.quick, share)])
        except Unavailable as error:
            not_counted = str(error)
    how = "bench-stack rr --cpus 0, messages" + (f". Ends where it failed ({ended})" if ended else "")
    series = [plot("stack.up_counters", "One CPU, messages: what an operation costs", "operations in progress", "count per operation",
                   lines, how + (f". Instructions are not counted ({not_counted})" if not_counted else ""), log_x=True)]
    if instructions:
        series.append(plot("stack.up_instructions", "One CPU, messages: instructions per operation", "operations in progress",
                           "instructions per operation", {"message": instructions},
                           f"{how}; callgrind, difference of a longer and a shorter run", log_x=True))
    return [], series


# Against others ------------------------------------------------------------------------------------------------------


def against(name, workload, theirs, extra=()):
    """Per core, the best placement of both; `theirs(bench)` are the sides of the other stack by placement."""
    def run(bench):
        ours = {f"ours, {label}": embed(workload, measuring(bench), cpus, concurrency=CONCURRENCY_UP, extra=extra, per_core=True)
                for label, cpus in (("1 CPU", CPUS_ONE), ("2 CPUs", CPUS_TWO))}
        other = theirs(bench)
        found = alternate({**other, **ours}, bench.rounds(9), bench.deadline)
        mine, best_other = (best({side: found[side] for side in sides}) for sides in (ours, other))
        why = "per core; " + "; ".join(f"{side} {one.told()}" for side, one in {**ours, **other}.items())
        return [ratio_row(name, found[mine], found[best_other], why, best={"ours": mine, "theirs": best_other})], []

    return Task("stack", BY_NAME[name].compares, (name,), 60, 7, run)


def on_kernel(workload):
    return lambda bench: {f"kernel, {label}": kernel(bench, workload, measuring(bench), cpus, CONCURRENCY_UP)
                          for label, cpus in (("1 CPU", CPUS_ONE), ("2 CPUs", CPUS_TWO))}


def on_lwip(workload, *variants):
    """lwIP looks connections up in a list, so it is also run with few; `variants` are further options it may be best with."""
    return lambda bench: {
        f"lwIP, {' '.join([f'{concurrency:,} at a time', *variant])}": lwip(workload, measuring(bench), 0, concurrency, variant)
        for concurrency in ((1,) if workload == "bulk" else (16, CONCURRENCY_UP)) for variant in variants or ((),)}


def tasks():
    return [
        Task("stack", "2 CPUs against 1, messages", ("ratio.smp_conn", "ratio.smp_rr", "ratio.smp_udp"), 90, 12, smp),
        Task("stack", "messages, one lock, striped locks, inline on 2 CPUs", tuple(VERSUS), 300, 45, disciplines),
        Task("stack", "messages against inline on 1 CPU", ("ratio.message_vs_inline_up",), 60, 8, up),
        against("ratio.conn_stack", "conn", on_kernel("conn")),
        against("ratio.conn_lwip", "conn", on_lwip("conn")),
        against("ratio.rr_lwip", "rr", on_lwip("rr")),
        against("ratio.bulk_lwip", "bulk", on_lwip("bulk", (), ("--copy",)), ("--mss", "1460")),
        printing("stack", "locks, atomics, messages and allocations per packet", "bench-steady",
                 ("steady.locks", "steady.atomics", "steady.remote", "steady.allocs", "steady.app_atomics"), 30, 5),
        Task("stack", "messages on 1 CPU over concurrency", (), 120, 15, up_curve, "stack.up"),
    ]
