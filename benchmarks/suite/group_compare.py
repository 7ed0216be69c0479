"""Group compare: bytes, ping-pong and memory of netd against the kernel's. Bulk in MB/s, ping-pong in round trips/s."""

import pathlib
import time

from netdtools import workload

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

def cpu_seconds(pid):
    """CPU time of all threads of a process, in nanosecond resolution."""
    total = 0
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def idle_cpu(held, name, count=10000):
    """netd's CPU time while it holds many connections on which nothing happens."""
    seconds = 3 if held.bench.quick else 10
    with workload.held_connections(workload.on_netd(held.bed), workload.on_peer(held.bed), next(PORT), count, held.scratch):
        time.sleep(6)  # falling asleep (decision 0011) takes up to twice idle_after, and is no idleness
        pid = held.bed.state["netd"][0]
        before, start = cpu_seconds(pid), time.monotonic()
        time.sleep(seconds)
        fraction = rounded((cpu_seconds(pid) - before) / (time.monotonic() - start))
        return row(name, BY_NAME[name].unit, fraction, fraction, fraction, 1, f"{count:,} idle connections for {seconds} s")


def idle_seconds(bench):
    """bench-idle holds as many as fit in its time, which is what remains of the task's."""
    return ("--seconds", max(20, min(220, int(bench.deadline - time.monotonic()))))


def tasks():
    return [
        task("compare", "ratio.bulk_tap_send", "iperf3 from netd over TAP", lambda held, name: bulk(held, name, held.from_netd, False)),
        task("compare", "ratio.bulk_tap_recv", "iperf3 to netd over TAP", lambda held, name: bulk(held, name, held.from_netd, True)),
        task("compare", "ratio.bulk_same_host", "iperf3 on one netd", lambda held, name: bulk(held, name, held.same_host, False), 55, 6),
        task("compare", "ratio.pingpong_same_host_block", "ping-pong on one netd", lambda held, name: pingpong(held, name, held.same_host), 55, 6),
        task("compare", "ratio.pingpong_same_host_poll", "ping-pong on one netd, polling",
             lambda held, name: pingpong(held, name, held.same_host, "spin"), 55, 6),
        task("compare", "ratio.pingpong_tap", "ping-pong over TAP", lambda held, name: pingpong(held, name, held.over_the_wire)),
        task("compare", "cpu.idle", "CPU time with idle connections", idle_cpu, 30, 15),
        printing("compare", "memory of idle connections, and how many there can be", "bench-idle", ("bytes.idle_connection", "conns.max"),
                 230, 5, arguments=idle_seconds),
        printing("compare", "kernel memory of an idle socket", "bench-idle-kernel", ("bytes.idle_kernel",), 15, 4),
    ]
