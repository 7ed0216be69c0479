"""Group compare: bytes, ping-pong and memory of netd against the kernel's. Bulk in MB/s, ping-pong in round trips/s."""

import contextlib
import pathlib
import subprocess
import sys
import time

from netdtools import process, workload
from netdtools.process import ToolError

from .comparison import PORT, task
from .printed import printing
from .rows import BY_NAME, rounded, row


def bulk(held, name, sides, reverse):
    return held.ratio(name, sides, workload.iperf3_server, lambda client, address, port: workload.iperf3(
        client, address, port, held.seconds, reverse) / 1e6, "MB/s of 1 stream, CUBIC verified on both ends")


def pingpong(held, name, sides, *how):
    return held.ratio(name, sides, lambda place, port: [held.sockets_program, "serve", place.address, port, *how],
                      lambda client, address, port: float(client.run(
                          [held.sockets_program, "pingpong", address, port, held.seconds, 64, *how]).stdout),
                      "round trips/s of 64 B, one at a time")


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
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def idle_cpu(held, name, count=10000):
    """netd's CPU time while it holds many connections on which nothing happens."""
    port = next(PORT)
    seconds = 3 if held.bench.quick else 10
    near, far = workload.on_netd(held.bed), workload.on_peer(held.bed)
    running = []
    stack = contextlib.ExitStack()
    try:
        for side, place, first in (("serve", near, "listens"), ("connect", far, None)):
            holder = subprocess.Popen(
                place.argv([sys.executable, "-c", HOLD, side, near.address, port, count]), stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=stack.enter_context(open(held.scratch / f"hold-{side}.log", "w")), text=True,
                env=place.environment)
            running.append(holder)
            if first and holder.stdout.readline().strip() != first:
                raise ToolError(process.tail_of_file(held.scratch / f"hold-{side}.log"))
        for side, holder in zip(("serve", "connect"), running):
            if holder.stdout.readline().strip() != "held":
                raise ToolError(f"{count} connections could not be held:\n"
                                + process.tail_of_file(held.scratch / f"hold-{side}.log", 4))
        time.sleep(6)  # falling asleep (decision 0011) takes up to twice idle_after, and is no idleness
        pid = held.bed.state["netd"][0]
        before, start = cpu_seconds(pid), time.monotonic()
        time.sleep(seconds)
        fraction = rounded((cpu_seconds(pid) - before) / (time.monotonic() - start))
        return row(name, BY_NAME[name].unit, fraction, fraction, fraction, 1, f"{count:,} idle connections for {seconds} s")
    finally:
        for holder in running:
            holder.kill()
            holder.communicate()
        stack.close()


def idle_seconds(bench):
    """bench-idle holds as many as fit in its time, which is what remains of the task's."""
    return ("--seconds", max(20, min(220, int(bench.deadline - time.monotonic()))))


def tasks():
    return [
        task("compare", "ratio.bulk_tap_send", "iperf3 from netd over TAP", lambda held, name: bulk(held, name, held.from_netd, False)),
        task("compare", "ratio.bulk_tap_recv", "iperf3 to netd over TAP", lambda held, name: bulk(held, name, held.from_netd, True)),
        task("compare", "ratio.bulk_same_host", "iperf3 on one netd", lambda held, name: bulk(held, name, held.same_host, False)),
        task("compare", "ratio.pingpong_same_host_block", "ping-pong on one netd", lambda held, name: pingpong(held, name, held.same_host)),
        task("compare", "ratio.pingpong_same_host_poll", "ping-pong on one netd, polling",
             lambda held, name: pingpong(held, name, held.same_host, "spin")),
        task("compare", "ratio.pingpong_tap", "ping-pong over TAP", lambda held, name: pingpong(held, name, held.over_the_wire)),
        task("compare", "cpu.idle", "CPU time with idle connections", idle_cpu, 30, 15),
        printing("compare", "memory of idle connections, and how many there can be", "bench-idle", ("bytes.idle_connection", "conns.max"),
                 230, 5, arguments=idle_seconds),
        printing("compare", "kernel memory of an idle socket", "bench-idle-kernel", ("bytes.idle_kernel",), 15, 4),
    ]
