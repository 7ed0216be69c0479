"""Group stack: netd's stack without a device, with itself on other CPUs and disciplines, with the kernel and with lwIP.

Every figure is an invocation of bench-stack or bench-lwip on its own; the sides of a ratio take turns, round by round.
"""

import statistics
import time

from . import machine, programs
from .callgrind import per_operation
from .figures import Unavailable, alternate, best, number, plot, ratio_row
from .plan import Task
from .printed import printing
from .rows import BY_NAME, RATIO, absent, rounded, row
from .stack_run import CPUS_ONE, CPUS_TWO, LWIP_THREADED, TOLD, AtOnce, bare, embed, kernel, lwip, lwip_threaded

WORKLOADS = ("conn", "rr", "bulk", "udp")
CONCURRENCY = 256  # two CPUs: enough for batches, few enough for every cache
CONCURRENCY_UP = 1000  # the goals table says so
LOCKS = ("mutex", "spin", "queue")
SHARDS = (64, 16, 2)  # 2: a lock for each CPU
HEAT = 0.3  # seconds of one that finds the best lock
AGAIN = 3  # variants of a family that run a second one
CURVE = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)


def measuring(bench):
    """Seconds of one invocation."""
    return 0.25 if bench.quick else 1.0


def measuring_many(bench):
    """Where there are many to compare."""
    return 0.25 if bench.quick else 0.5


TWINS = "two processes"


def smp(bench):
    """2 CPUs against 1 under messages, each workload. Beside each row its bound: two processes on a CPU each, with half of
    the operations each, which share nothing but the machine; and the bare spin ratio."""
    programs.path_of("bench-stack")
    rows, spins, missing = [], [machine.spin_ratio(bench.quick)], []
    workloads = ("conn", "rr", "udp")
    for part, workload in enumerate(workloads):
        sides = {cpus: embed(workload, measuring(bench), cpus, concurrency=CONCURRENCY) for cpus in (CPUS_ONE, CPUS_TWO)}
        sides[TWINS] = AtOnce(*(embed(workload, measuring(bench), cpu, concurrency=CONCURRENCY // 2) for cpu in CPUS_TWO.split(",")))
        try:
            found = alternate(sides, bench.rounds(7), share(bench, part, len(workloads)))
        except Unavailable as error:
            missing += [absent(f"{kind}.smp_{workload}", str(error)) for kind in ("ratio", "bound")]
            continue
        spins.append(machine.spin_ratio(bench.quick))
        one = f"1 CPU {sides[CPUS_ONE].told()}"
        rows.append(ratio_row(f"ratio.smp_{workload}", found[CPUS_TWO], found[CPUS_ONE], f"2 CPUs {sides[CPUS_TWO].told()}; {one}"))
        rows.append(ratio_row(f"bound.smp_{workload}", found[TWINS], found[CPUS_ONE], f"{TWINS}, a CPU each {sides[TWINS].told()}; {one}"))
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


def families(shards_tried=SHARDS):
    """Family -> its variants by name, as arguments of embed(). Of a family only the fastest goes on.

    With 64 shards the two ends of a local connection hardly ever share one, so that each segment visits two; with fewer
    they do, as messages have it. The threads of different CPUs take their sockets from different shards, as under
    messages from different CPUs.
    """
    def striped(locks):
        return {f"striped {lock}, {shards} shards" + (f", {locks} locks" if locks > 1 else ""):
                dict(discipline="striped", lock=lock, locks=locks, shards=shards) for lock in LOCKS for shards in shards_tried}

    return {
        "message": {"message": {}},
        "inline": {"inline": dict(discipline="inline")},
        "giant": {f"giant {lock}": dict(discipline="giant", lock=lock) for lock in LOCKS},
        "striped": striped(1),
        "striped, 3 locks": striped(3),
    }


def fastest(sides, again):
    """(the name of the fastest side, what each did). All run once, the best `again` of them once more in the other order, and
    their sums decide: the largest of many single runs is the luckiest. Unavailable when none can run."""
    rates, reason = {}, "no side"

    def run(names):
        nonlocal reason
        for name in names:
            try:
                rates.setdefault(name, []).append(sides[name]())
            except Unavailable as error:
                reason = str(error)
                rates.pop(name, None)

    run(sides)
    if again and len(rates) > 1:
        run(sorted(sorted(rates, key=lambda name: rates[name][0])[-again:], key=list(sides).index, reverse=True))
    if not rates:
        raise Unavailable(reason)
    heats = max(map(len, rates.values()))
    name = max((name for name, values in rates.items() if len(values) == heats), key=lambda name: sum(rates[name]))
    return name, ", ".join(f"{side} {' and '.join(map(number, values))}" for side, values in rates.items())


def tournament(bench, workload, deadline, cpus=CPUS_TWO, concurrency=CONCURRENCY, only=None):
    """Family -> (name, side, values of its rounds, what the heats were), and for one that cannot run here the reason."""
    entered, heats, reasons = {}, {}, {}
    for family, variants in (families(SHARDS[1:2]) if bench.quick else families()).items():
        if only and family not in only:
            continue
        sides = {name: embed(workload, HEAT, cpus, concurrency=concurrency, **what) for name, what in variants.items()}
        try:
            name, heats[family] = fastest(sides, 0 if bench.quick else AGAIN)
        except Unavailable as error:
            reasons[family] = str(error)
            continue
        entered[family] = (name, embed(workload, measuring(bench), cpus, concurrency=concurrency, **variants[name]))
    found = alternate({family: side for family, (_, side) in entered.items()}, bench.rounds(5), deadline)
    return {family: (*entered[family], found[family], heats[family]) for family in entered}, reasons


VERSUS = {"ratio.message_vs_giant": ("message", "giant"), "ratio.message_vs_striped": ("message", "striped"),
          "ratio.inline_vs_message": ("inline", "message")}


def rates(workload, cpus, outcome):
    """What each family does by itself, and its counters: the table behind the ratios."""
    for family, (name, side, values, heats) in outcome.items():
        tried = f"; heats of {HEAT:g} s: {heats}" if name != family else ""  # others were tried
        yield row(f"stack.rate.{workload}.{cpus}.{family.replace(', ', '_').replace(' ', '_')}", side.results[0]["unit"],
                  *map(rounded, (statistics.median(values), min(values), max(values))), len(values), f"{name}: {side.told()}{tried}")


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
                try:
                    found.append((workload, ratio_row(name, mine[2], other[2], f"{mine[0]} {mine[1].told()}; {other[0]} {other[1].told()}")))
                except Unavailable as error:
                    lacking = lacking or f"{workload}: {error}"
        if lacking:
            rows.append(absent(name, lacking))
        else:
            rows.append(smallest(found))
    for workload, outcome in outcomes.items():
        rows += rates(workload, 2, outcome)
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
        for family, (_, _, values, _) in outcome.items():
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
    """What messages and locks cost where there is nothing to share: one CPU, 1,000 operations at a time."""
    found, rows = [], []
    workloads = ("conn", "rr", "udp")
    for part, workload in enumerate(workloads):
        outcome, reasons = tournament(bench, workload, share(bench, part, len(workloads)), CPUS_ONE, CONCURRENCY_UP,
                                      ("message", "inline") if bench.quick else None)
        if not {"message", "inline"} <= outcome.keys():
            raise Unavailable("; ".join(reasons.values()))
        (_, mine, values, _), (_, other, others, _) = outcome["message"], outcome["inline"]
        found.append((workload, ratio_row("ratio.message_vs_inline_up", values, others, f"message {mine.told()}; inline {other.told()}")))
        rows += rates(workload, 1, outcome)
    return [smallest(found), *rows], []


COUNTED = ("message", "inline")


def up_curve(bench):
    """Counters and instructions per operation on one CPU, over the operations in progress."""
    points = (1, 100, 10000) if bench.quick else CURVE
    counters, instructions, ended = {}, {}, []
    for part, concurrency in enumerate(points):
        end = share(bench, part, len(points))
        for discipline in COUNTED:
            side = embed("rr", measuring(bench), CPUS_ONE, discipline, concurrency=concurrency)
            try:
                side()
                if discipline == "message":
                    for name, value in side.per_operation().items():
                        if name.startswith(TOLD):
                            counters.setdefault(name.replace("_", " "), []).append([concurrency, value])
                if not (bench.quick and concurrency > 1000):
                    count = per_operation(side, bench.quick, max(10.0, end - time.monotonic()))
                    instructions.setdefault(discipline, []).append([concurrency, count])
            except Unavailable as error:
                ended.append(f"{discipline} with {concurrency:,}: {error}")
        if time.monotonic() > bench.deadline:
            ended.append(f"the time was over after {concurrency:,}")
            break
    if not counters:
        raise Unavailable(ended[0] if ended else "nothing was counted")
    how = "bench-stack rr --cpus 0" + (f". Not all: {'; '.join(ended[:3])}" if ended else "")
    series = [plot("stack.up_counters", "One CPU, messages: what an operation costs", "operations in progress", "count per operation",
                   counters, how, log_x=True)]
    if instructions:
        series.append(plot("stack.up_instructions", "One CPU: instructions per operation", "operations in progress",
                           "instructions per operation", instructions, f"{how}; callgrind, difference of a longer and a shorter run",
                           log_x=True))
    return [], series


def counted_instructions(bench):
    """The figure that repeats on a machine with others: instructions per operation, one CPU, both ends and the workers."""
    rows = []
    for workload in ("rr",) if bench.quick else ("conn", "rr", "udp"):
        for discipline in COUNTED:
            name = f"stack.instructions.{workload}.{discipline}"
            side = embed(workload, measuring(bench), CPUS_ONE, discipline, concurrency=CONCURRENCY_UP)
            try:
                count = rounded(per_operation(side, bench.quick, max(10.0, bench.deadline - time.monotonic())))
                rows.append(row(name, "instructions per operation", count, count, count, 1,
                                f"callgrind, {CONCURRENCY_UP:,} operations in progress, both ends and their programs"))
            except Unavailable as error:
                rows.append(row(name, "instructions per operation", why=str(error)))
    return rows, []


# Against others ------------------------------------------------------------------------------------------------------

BARE = "a stack without a protocol"


def bound(name, values, theirs, why):
    """What the row could be at best: calls, rings, headers, checksums and look-ups alone, in one thread (bench-bare)."""
    return ratio_row(name.replace("ratio.", "bound."), values, theirs, f"per core; {BARE} {why}")


def against(name, workload, theirs):
    """Per core, the best placement of both; `theirs(bench)` are the sides of the other stack by placement."""
    def run(bench):
        ours = {f"ours, {label}": embed(workload, measuring(bench), cpus, concurrency=CONCURRENCY_UP, per_core=True)
                for label, cpus in (("1 CPU", CPUS_ONE), ("2 CPUs", CPUS_TWO))}
        other = theirs(bench)
        least = bare(workload, measuring(bench), CONCURRENCY_UP)
        found = alternate({**other, **ours, BARE: least}, bench.rounds(7), bench.deadline)
        mine, best_other = (best({side: found[side] for side in sides}) for sides in (ours, other))
        why = "per core; " + "; ".join(f"{side} {one.told()}" for side, one in {**ours, **other}.items())
        return [ratio_row(name, found[mine], found[best_other], why, best={"ours": mine, "theirs": best_other}),
                bound(name, found[BARE], found[best_other], f"{least.told()}; {best_other} {other[best_other].told()}")], []

    return Task("stack", BY_NAME[name].compares, (name,), 50, 7, run, name.replace("ratio.", "bound."))


def on_kernel(workload):
    return lambda bench: {f"kernel, {label}": kernel(bench, workload, measuring(bench), cpus, CONCURRENCY_UP)
                          for label, cpus in (("1 CPU", CPUS_ONE), ("2 CPUs", CPUS_TWO))}


# lwIP ----------------------------------------------------------------------------------------------------------------

MSS = ("--mss", "1460")  # segments of that size, and checksums, on both sides
FEW_TO_MANY = (16, 256, 1000)
FEW_TO_MANY_CALLBACKS = (16, 100, 1000)


def placements(bench):
    return {"1 CPU": CPUS_ONE} if bench.quick else {"1 CPU": CPUS_ONE, "2 CPUs": CPUS_TWO}


def outstanding(bench, workload):
    return (1,) if workload == "bulk" else (16, 1000) if bench.quick else FEW_TO_MANY


def of_lwip(bench, workload, program, kind):
    """lwIP's threaded side, sockets without a copy of bulk as well (which netconns offer)."""
    variants = ((), ("--no-copy",)) if workload == "bulk" else ((),)
    return {f"lwIP, {' '.join([kind, *extra])}, {label}, {count:,} at a time":
            lwip_threaded(program, workload, measuring_many(bench), cpus, count, extra)
            for label, cpus in placements(bench).items() for count in outstanding(bench, workload) for extra in variants}


def heat(sides):
    """The best side of one round: (name, side), and what the others did. Unavailable when none can run."""
    able, reason = {}, "no side"
    for name, side in sides.items():
        try:
            able[name] = side()
        except Unavailable as error:
            reason = str(error)
    if not able:
        raise Unavailable(reason)
    name = max(able, key=able.get)
    sides[name].results.clear()
    return name, sides[name], ", ".join(f"{side} {number(value)}" for side, value in able.items())


def against_lwip(workload):
    """Sockets and application threads on both sides, each in its best configuration; lwIP also by messages alone, its
    discipline that is like ours."""
    name = f"ratio.{workload}_lwip"

    def run(bench):
        ours, mine, our_heat = heat({
            f"ours, {label}, {count:,} at a time": embed(workload, measuring_many(bench), cpus, concurrency=count, extra=MSS, per_core=True)
            for label, cpus in placements(bench).items() for count in outstanding(bench, workload)})
        entered, heats = {}, {}
        for kind, program in LWIP_THREADED.items():
            label, side, heats[kind] = heat(of_lwip(bench, workload, program, kind))
            entered[kind] = (label, side)
        _, least, _ = heat({count: bare(workload, measuring_many(bench), count) for count in outstanding(bench, workload)})
        found = alternate({"ours": mine, BARE: least, **{kind: side for kind, (_, side) in entered.items()}}, bench.rounds(9), bench.deadline)
        fastest = best({kind: found[kind] for kind in entered})
        rows = [bound(name, found[BARE], found[fastest], f"{least.told()}; {fastest} {entered[fastest][1].told()}")]
        for rows_name, kinds in ((name, tuple(entered)), (f"{name}.messages", ("calls as messages",))):
            kind = best({kind: found[kind] for kind in kinds})
            label, side = entered[kind]
            why = (f"per core, application threads and sockets on both sides, MSS 1,460, checksums; {ours} {mine.told()}; "
                   f"{label} {side.told()}; all, one round each: {our_heat}; " + "; ".join(heats[kind] for kind in kinds))
            rows.append(ratio_row(rows_name, found["ours"], found[kind], why, best={"ours": ours, "theirs": label}))
        return rows, []

    return Task("stack", BY_NAME[name].compares, (name,), 55, 9, run, (f"{name}.messages", name.replace("ratio.", "bound.")))


def callbacks(bench):
    """Without threads on both sides: our inline against lwIP's callbacks, as many operations at a time on both."""
    rows = []
    cases = [(workload, count) for workload in ("conn", "rr", "udp") for count in FEW_TO_MANY_CALLBACKS] + [("bulk", 1)]
    cases = [case for case in cases if not bench.quick or case in (("conn", 16), ("conn", 1000), ("bulk", 1))]
    for part, (workload, count) in enumerate(cases):
        name = f"ratio.{workload}_lwip.callbacks" + (f".{count}" if workload != "bulk" else "")
        ours = embed(workload, measuring_many(bench), CPUS_ONE, "inline", concurrency=count, extra=MSS)
        theirs = lwip(workload, measuring_many(bench), 0, count, ("--copy",) if workload == "bulk" else ())
        try:
            found = alternate({"ours": ours, "lwIP": theirs}, bench.rounds(5), share(bench, part, len(cases)))
            why = f"{count:,} at a time, one thread on each side; inline {ours.told()}; lwIP, raw API {theirs.told()}"
            rows.append(ratio_row(name, found["ours"], found["lwIP"], why))
        except Unavailable as error:
            rows.append(row(name, RATIO, why=str(error)))
    return rows, []


def tasks():
    return [
        Task("stack", "2 CPUs against 1, messages", ("ratio.smp_conn", "ratio.smp_rr", "ratio.smp_udp"), 100, 14, smp, "bound.smp"),
        Task("stack", "messages, one lock, striped locks, inline on 2 CPUs", tuple(VERSUS), 230, 35, disciplines, "stack.rate"),
        Task("stack", "messages, inline and locks on 1 CPU", ("ratio.message_vs_inline_up",), 130, 7, up, "stack.rate"),
        against("ratio.conn_stack", "conn", on_kernel("conn")),
        against_lwip("conn"), against_lwip("rr"), against_lwip("bulk"),
        Task("stack", "inline against lwIP's callbacks", (), 100, 7, callbacks, tuple(f"ratio.{workload}_lwip.callbacks" for workload in WORKLOADS)),
        printing("stack", "locks, atomics, messages and allocations per packet", "bench-steady",
                 ("steady.locks", "steady.atomics", "steady.remote", "steady.allocs", "steady.app_atomics"), 12, 8),
        Task("stack", "instructions per operation", (), 45, 5, counted_instructions, "stack.instructions"),
        Task("stack", "1 CPU over concurrency", (), 110, 14, up_curve, "stack.up"),
    ]
