"""Group compare: bytes, ping-pong and memory of netd against the kernel's. Bulk in MB/s, ping-pong in round trips/s."""

import pathlib
import time

from netdtools import workload
from netdtools.namespace import add_address

from .comparison import PORT, Side, extra, task
from .plan import Task
from .printed import printing, rows_of
from .programs import lines, path_of
from .rows import BY_NAME, rounded, row
from .stack_run import LWIP_CALLBACKS, LWIP_TUN


def bulk(held, name, sides, reverse):
    return held.ratio(name, sides, workload.iperf3_server, lambda client, address, port: workload.iperf3(
        client, address, port, held.seconds, reverse) / 1e6, "MB/s of 1 stream, CUBIC verified on both ends")


def pingpong(held, name, sides, *how):
    return held.ratio(name, sides, lambda place, port: [held.sockets_program, "serve", place.address, port, *how],
                      lambda client, address, port: float(client.run(
                          [held.sockets_program, "pingpong", address, port, held.seconds, 64, *how]).stdout),
                      "round trips/s of 64 B, one at a time")


# lwIP over a TUN device ----------------------------------------------------------------------------------------------

def lwip_sides(held):
    """netd over TAP, with all CPUs and with one thread, and lwIP over TUN devices, which sleeps at once or looks first; all
    served to the kernel of the testbed's peer."""
    program = path_of(LWIP_TUN)
    sides = [side for side in held.over_the_wire if side.of == "netd"]
    peer = held.bed.peer
    for number, (name, more) in enumerate({"lwip": [], "lwip, looking 50 us": ["--spin", 50]}.items(), 2):
        device, network = f"lw{number}", f"10.{held.bed.state['slot']}.{number}"
        if peer.run(["ip", "link", "show", device], check=False).returncode != 0:
            peer.run(["ip", "tuntap", "add", "dev", device, "mode", "tun"])
            add_address(peer, device, f"{network}.1")
        sides.append(Side(name, LwipPlace(name, peer.prefix, f"{network}.2", [program, device], more), workload.on_peer(held.bed), "lwip"))
    return sides


class LwipPlace(workload.Place):
    """lwIP is no place for a program, it is the server: what a command says of it is its port and what it does."""

    def __init__(self, name, prefix, address, program, options):
        super().__init__(name, prefix, address)
        self.program, self.options = program, options

    def on_cpus(self, cpus):
        prefix = self.prefix if cpus is None else [*self.prefix, "taskset", "-c", cpus]
        return LwipPlace(self.name, prefix, self.address, self.program, self.options)

    def argv(self, command):
        _, mode, _, port = command
        discards = ["--discard"] if mode == "discard" else []
        return super().argv([*self.program, self.address, port, *discards, *self.options])


def against_lwip(held, name, serves, asks, what):
    """`serves`, `asks`: modes of bench-sockets; what follows ADDRESS PORT SECONDS of the second."""
    return held.ratio(name, lwip_sides(held), lambda place, port: [held.sockets_program, serves, place.address, port],
                      lambda client, address, port: float(client.run(
                          [held.sockets_program, asks[0], address, port, held.seconds, *asks[1:]]).stdout),
                      f"{what}; lwIP serves by callbacks in the thread that reads its device, netd a program of its own")


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


def idle_of_lwip(_bench):
    """The connection alone, by callbacks: no socket, no program's descriptor, nothing of a ring."""
    return rows_of(lines(LWIP_CALLBACKS, ("idle", "--concurrency", 10000))), []


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
        Task("compare", "lwIP's memory of an idle connection", (), 3, 3, idle_of_lwip, "bytes.idle_lwip"),
        extra("compare", "ratio.lwip_tap.pingpong", "ping-pong with the kernel, netd : lwIP", lambda held, name: against_lwip(
            held, name, "serve", ("pingpong", 64), "round trips/s of 64 B, one at a time")),
        extra("compare", "ratio.lwip_tap.rr", "requests of the kernel, netd : lwIP", lambda held, name: against_lwip(
            held, name, "answer", ("ask", 32), "requests/s of 64 B, 32 connections")),
        extra("compare", "ratio.lwip_tap.bulk", "bytes from the kernel, netd : lwIP", lambda held, name: against_lwip(
            held, name, "discard", ("bulk",), "bytes/s of 1 stream; netd with the device's offloads, which lwIP has none of")),
    ]
