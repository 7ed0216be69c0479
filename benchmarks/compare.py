"""Unmodified programs on netd against the same programs on the kernel: alternating rounds, the best placement of each.

A placement says on which CPUs server and client run; netd's protocol threads stand on all CPUs of the testbed. Each side
is judged by its own best placement, a ratio is taken round by round, and its median, lowest and highest are told.
"""

import contextlib
import itertools
import os
import pathlib
import statistics
import subprocess
import sys
import time

from netdtools import paths, process, workload
from netdtools.process import ToolError
from rows import COMPARED, RATIO, row

PORT = itertools.count(20000)  # a fresh port for every server: no row meets another's TIME-WAITs


class Side:
    """netd or the kernel: where the server of a row runs and where its client."""

    def __init__(self, name, server, client):
        self.name, self.server, self.client = name, server, client


class Comparison:
    def __init__(self, bed, pair, scratch, rounds, seconds, quick, say):
        self.bed, self.scratch, self.rounds, self.seconds, self.say = bed, scratch, rounds, seconds, say
        near, far = workload.on_netd(bed), workload.on_peer(bed)
        kernel_near, kernel_far = workload.on_veth(pair)
        self.over_the_wire = [Side("netd", near, far), Side("kernel", kernel_near, kernel_far)]
        self.from_netd = [Side("netd", far, near), Side("kernel", kernel_far, kernel_near)]
        self.same_host = [Side("netd", near, near), Side("kernel", kernel_near, kernel_near)]
        cpus = [str(cpu) for cpu in sorted(os.sched_getaffinity(0))]
        self.placements = {"free": (None, None)}
        if len(cpus) > 1 and not quick:
            self.placements.update({"two CPUs": (cpus[0], cpus[1]), "one CPU": (cpus[0], cpus[0])})
        self.files = scratch / "files"
        self.files.mkdir()
        (self.files / "small").write_text("x" * 612)
        self.sockets_program = str(paths.build_dir() / "benchmarks" / "bench-sockets")

    def series(self, name, sides, command, measure):
        """placement -> side name -> figures, one per round. Both servers stand while their rounds alternate."""
        found = {}
        for placement, (server_cpu, client_cpu) in self.placements.items():
            port = next(PORT)
            figures = {side.name: [] for side in sides}
            with contextlib.ExitStack() as stack:
                for side in sides:
                    log = self.scratch / f"{name}-{side.name}.log"
                    place = side.server.on_cpus(server_cpu)
                    stack.enter_context(workload.serving(place, command(place, port), log, port, side.client))
                for turn in range(self.rounds):
                    for side in sides if turn % 2 == 0 else reversed(sides):
                        figures[side.name].append(measure(side.client.on_cpus(client_cpu), side.server.address, port))
            found[placement] = figures
            self.say(f"{name}, {placement}: " + ", ".join(
                f"{side} {statistics.median(values):,.0f}" for side, values in figures.items()))
        return found

    def ratio(self, name, sides, command, measure):
        found = self.series(name, sides, command, measure)
        medians = {side.name: {placement: statistics.median(figures[side.name]) for placement, figures in found.items()}
                   for side in sides}
        best = {side: max(values, key=values.get) for side, values in medians.items()}
        ratios = [ours / theirs for ours, theirs in zip(found[best["netd"]]["netd"], found[best["kernel"]]["kernel"])]
        why = "; ".join(f"{side}: " + ", ".join(f"{placement} {value:,.0f}" for placement, value in values.items())
                        for side, values in medians.items())
        return row(name, RATIO, round(statistics.median(ratios), 4), round(min(ratios), 4), round(max(ratios), 4),
                   len(ratios), why, best=best)

    # The rows -------------------------------------------------------------------------------------------------------

    def bulk(self, name, sides, reverse):
        return self.ratio(name, sides, workload.iperf3_server, lambda client, address, port: workload.iperf3(
            client, address, port, self.seconds, reverse) / 1e6)

    def pingpong(self, name, sides):
        return self.ratio(name, sides, lambda place, port: [self.sockets_program, "serve", place.address, port],
                          lambda client, address, port: float(client.run(
                              [self.sockets_program, "pingpong", address, port, self.seconds, 64]).stdout))

    def redis(self, name, sides, pipeline):
        requests = int((25000 if pipeline == 1 else 200000) * self.seconds)
        return self.ratio(name, sides, lambda place, port: workload.redis_server(place, port, self.scratch),
                          lambda client, address, port: workload.redis_benchmark(
                              client, address, port, tests="get", requests=requests, pipeline=pipeline)["GET"])

    def nginx(self, name, close):
        def command(place, port):
            folder = self.scratch / f"{name}-{port}-{len(place.prefix)}-{place.name.split()[0]}"
            folder.mkdir(exist_ok=True)
            return workload.nginx(place, port, folder, self.files)

        return self.ratio(name, self.over_the_wire, command, lambda client, address, port: workload.wrk(
            client, address, port, "small", self.seconds, close=close))

    def memcached(self, name):
        return self.ratio(name, self.over_the_wire, workload.memcached, lambda client, address, port: float(client.run(
            [self.sockets_program, "memcached", address, port, self.seconds, 32]).stdout))

    def redis_same_host(self, name):
        both = [self.redis(name, self.same_host, pipeline) for pipeline in (1, 16)]
        return min(both, key=lambda candidate: candidate["value"])

    def idle(self, name):
        return idle_cpu(name, self.bed, self.scratch, 10000, 10 if self.rounds >= 5 else 3)

    def measure(self, name):
        actions = {
            "ratio.bulk_tap_send": lambda: self.bulk(name, self.from_netd, False),
            "ratio.bulk_tap_recv": lambda: self.bulk(name, self.from_netd, True),
            "ratio.bulk_same_host": lambda: self.bulk(name, self.same_host, False),
            "ratio.pingpong_same_host_block": lambda: self.pingpong(name, self.same_host),
            "ratio.pingpong_tap": lambda: self.pingpong(name, self.over_the_wire),
            "ratio.redis_tap": lambda: self.redis(name, self.over_the_wire, 1),
            "ratio.nginx_tap": lambda: self.nginx(name, False),
            "ratio.nginx_close_tap": lambda: self.nginx(name, True),
            "ratio.memcached_tap": lambda: self.memcached(name),
            "ratio.redis_same_host": lambda: self.redis_same_host(name),
            "cpu.idle": lambda: self.idle(name),
        }
        try:
            return actions[name]()
        except ToolError as error:
            return row(name, COMPARED[name], why=f"failed: {error}")


# Idle connections ----------------------------------------------------------------------------------------------------

HOLD = """
import resource, socket, sys
side, address, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, max(count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
held = []
if side == "serve":
    door = socket.create_server((address, port), backlog=1024)
    print("listens", flush=True)
    while len(held) < count:
        held.append(door.accept()[0])
else:
    while len(held) < count:
        held.append(socket.create_connection((address, port), 10))
print("held", flush=True)
sys.stdin.read()
"""


def cpu_seconds(pid):
    """CPU time of all threads of a process, in nanosecond resolution."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def idle_cpu(name, bed, scratch, count, seconds):
    """netd's CPU time while it holds many connections on which nothing happens."""
    port = next(PORT)
    near, far = workload.on_netd(bed), workload.on_peer(bed)
    running = []
    stack = contextlib.ExitStack()
    try:
        for side, place, first in (("serve", near, "listens"), ("connect", far, None)):
            holder = subprocess.Popen(
                place.argv([sys.executable, "-c", HOLD, side, near.address, port, count]), stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=stack.enter_context(open(scratch / f"hold-{side}.log", "w")), text=True, env=place.environment)
            running.append(holder)
            if first and holder.stdout.readline().strip() != first:
                raise ToolError(process.tail_of_file(scratch / f"hold-{side}.log"))
        for side, holder in zip(("serve", "connect"), running):
            if holder.stdout.readline().strip() != "held":
                raise ToolError(f"{count} connections could not be held:\n"
                                + process.tail_of_file(scratch / f"hold-{side}.log", 4))
        time.sleep(2)
        pid = bed.state["netd"][0]
        before, start = cpu_seconds(pid), time.monotonic()
        time.sleep(seconds)
        fraction = (cpu_seconds(pid) - before) / (time.monotonic() - start)
        return row(name, COMPARED[name], round(fraction, 6), round(fraction, 6), round(fraction, 6), 1,
                   f"{count} idle connections for {seconds} s")
    finally:
        for holder in running:
            holder.kill()
            holder.communicate()
        stack.close()
