"""Unmodified programs on netd against the same programs on the kernel: alternating rounds, the best placement of each.

A placement says on which CPUs server and client run; there is a netd with a protocol thread on each CPU of the testbed
and one with a single thread on the first. Each side is judged by its own best placement, a ratio is taken round by round,
and its median, lowest and highest are told.
"""

import contextlib
import itertools
import os
import pathlib
import shutil
import statistics
import tempfile
import time

from netdtools import paths, workload
from netdtools.process import ToolError
from netdtools.testbed import Testbed, VethPair, why_not_possible

from .figures import Unavailable, alternate, best, number, ratio_row
from .plan import Task

PORT = itertools.count(20000)  # a fresh port for every server: no row meets another's TIME-WAITs


class Side:
    """netd or the kernel: where the server of a row runs and where its client. `of`: whose figures these are."""

    def __init__(self, name, server, client, of=None):
        self.name, self.server, self.client, self.of = name, server, client, of or name


class Comparison:
    """The testbed and the veth pair of a run, and how a row is measured between them."""

    def __init__(self, bench):
        reason = why_not_possible()
        if reason:
            raise Unavailable(f"no testbed here: {reason}")
        tag = f"b{os.getpid()}"
        self.bench = bench
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="netd-bench-"))
        bench.cleanup.callback(shutil.rmtree, self.scratch, ignore_errors=True)
        cpus = [str(cpu) for cpu in sorted(os.sched_getaffinity(0))]
        self.beds = {"netd": self.up(tag, None)}
        if len(cpus) > 1:
            self.beds["netd with one thread"] = self.up(f"{tag}-one", cpus[0])
        bench.cleanup.callback(VethPair.down, tag)
        pair = VethPair.up(tag)
        share = workload.on_netd(self.bed, "--share", "bench")
        kernel_near, kernel_far = workload.on_veth(pair)
        self.over_the_wire = [Side(name, workload.on_netd(bed), workload.on_peer(bed), "netd") for name, bed in self.beds.items()]
        self.over_the_wire.append(Side("kernel", kernel_near, kernel_far))
        self.from_netd = [Side(side.name, side.client, side.server, side.of) for side in self.over_the_wire]
        self.same_host = [Side("netd", share, share), Side("kernel", kernel_near, kernel_near)]
        self.placements = {"free": (None, None)}
        if len(cpus) > 1 and not bench.quick:
            # "one CPU": not the one of netd's only thread, or three would take turns while the other CPU rests
            self.placements.update({"two CPUs": (cpus[0], cpus[1]), "one CPU": (cpus[1], cpus[1])})
        self.seconds = 1
        self.sockets_program = str(paths.build_dir() / "benchmarks" / "bench-sockets")

    def up(self, name, cpus):
        self.bench.cleanup.callback(Testbed.down, name)
        return Testbed.up(name, cpus=cpus)

    @property
    def bed(self):
        """Of the netd with all CPUs."""
        return self.beds["netd"]

    def is_alive(self):
        return all(bed.netd_is_alive() for bed in self.beds.values())

    def down(self):
        for bed in self.beds.values():
            Testbed.down(bed.name)
        VethPair.down(f"b{os.getpid()}")

    def series(self, name, sides, command, measure):
        """placement -> side name -> figures, one per round. All servers stand while their rounds alternate."""
        found = {}
        begin = time.monotonic()
        for number_of, (placement, (server_cpu, client_cpu)) in enumerate(self.placements.items(), 1):
            port = next(PORT)
            with contextlib.ExitStack() as stack:
                rounds = {}
                for side in sides:
                    log = self.scratch / f"{name}-{side.name}.log"
                    place = side.server.on_cpus(server_cpu)
                    stack.enter_context(workload.serving(place, command(place, port), log, port, side.client))
                    client = side.client.on_cpus(client_cpu)
                    rounds[side.name] = lambda client=client, side=side: measure(client, side.server.address, port)
                share = begin + (self.bench.deadline - begin) * number_of / len(self.placements)
                found[placement] = alternate(rounds, self.bench.rounds(9), share)
        return found

    def ratio(self, name, sides, command, measure, what):
        found = self.series(name, sides, command, measure)
        by_side = {side.of: {} for side in sides}
        other = next(of for of in by_side if of != "netd")
        for placement, figures in found.items():
            for side in sides:
                by_side[side.of][placement if side.name == side.of else f"{placement}, {side.name}"] = figures[side.name]
        chosen = {side: best(placements) for side, placements in by_side.items()}
        why = "; ".join(f"{side}: " + ", ".join(f"{placement} {number(statistics.median(values))}"
                                                for placement, values in placements.items())
                        for side, placements in by_side.items())
        if len({placement.partition(",")[0] for placement in chosen.values()}) > 1: # one placement stands after the other
            why += "; the best ones are of different placements: their rounds were not in turn"
        return ratio_row(name, by_side["netd"][chosen["netd"]], by_side[other][chosen[other]], f"{what}; {why}", best=chosen)


def comparison(bench):
    """The one of this run, made on first use; a fresh one when its netd has ended."""
    known = bench.shared.get("comparison")
    if isinstance(known, str):
        raise Unavailable(known)
    try:
        if known and not known.is_alive():
            known.down()
            known = None
        known = known or Comparison(bench)
    except (ToolError, Unavailable) as error:
        bench.shared["comparison"] = str(error).splitlines()[0]
        raise Unavailable(bench.shared["comparison"]) from None
    bench.shared["comparison"] = known
    return known


def task(group, name, title, measure, seconds=70, seconds_quick=9):
    """A task of one row of the goals: measure(comparison, name) returns it."""
    return Task(group, title, (name,), seconds, seconds_quick, measuring(name, measure))


def extra(group, name, title, measure, seconds=20, seconds_quick=12):
    """The same of a row beside the goals."""
    return Task(group, title, (), seconds, seconds_quick, measuring(name, measure), name)


def measuring(name, measure):
    def run(bench):
        held = comparison(bench)
        try:
            return [measure(held, name)], []
        except ToolError as error:
            died = "" if held.is_alive() else " (netd has ended)"
            raise Unavailable(f"failed{died}: {' / '.join(str(error).split(chr(10))[:2])}") from None

    return run
