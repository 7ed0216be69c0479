#!/usr/bin/env python3
"""The demonstration: unmodified programs on netd and on the kernel, with the kernel as the other side, and a table.

The left figures are of programs on netd whose peer is the kernel over a TAP; the right ones of the same programs on the
kernel over a veth pair. The figures are single short runs; benchmarks/run has medians of alternating rounds.
"""

import argparse
import contextlib
import pathlib
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from netdtools import leaks, paths, workload  # noqa: E402
from netdtools.process import ToolError  # noqa: E402
from netdtools.testbed import Testbed, VethPair, why_not_possible  # noqa: E402

NAME = "demo"
FILE_BYTES = 256 << 20
REDIS, NGINX, HTTP, IPERF = 6379, 8080, 8000, 5201
STARTED = time.monotonic()


class Side:
    """One of the two things compared: a place for the programs under test and the place of their peer."""

    def __init__(self, name, near, far):
        self.name, self.near, self.far = name, near, far


class Demo:
    def __init__(self, sides, scratch, digest):
        self.sides, self.scratch, self.digest = sides, scratch, digest
        self.table = []
        self.wrong = []

    def row(self, title, unit, measure):
        """Measures on both sides; a failure is told at once, and the demo goes on to show what else is right."""
        figures = []
        for side in self.sides:
            say(f"{title}, {side.name} ...")
            try:
                figures.append(measure(side))
                say(f"{title}, {side.name}: {figures[-1]:,.0f} {unit}")
            except ToolError as error:
                figures.append(None)
                self.wrong.append(f"{title}, {side.name}")
                say(f"WRONG: {title}, {side.name}: {error}")
        self.table.append((title, unit, *figures))

    def group(self, what, command, port, where="near"):
        """For each side a server that runs while the rows of the group are measured."""
        stack = contextlib.ExitStack()
        for side in self.sides:
            server = getattr(side, where)
            client = side.far if where == "near" else side.near
            log = self.scratch / f"{what}-{side.name}.log"
            try:
                stack.enter_context(workload.serving(server, command(server), log, port, client))
            except ToolError as error:
                self.wrong.append(f"{what}, {side.name}")
                say(f"WRONG: {error}")
        return stack

    def checked_file(self, asking, url):
        digest, length, speed = workload.fetch(asking, url)
        if (digest, length) != (self.digest, FILE_BYTES):
            raise ToolError(f"the file arrived wrong: {length} of {FILE_BYTES} bytes, SHA-256 {digest}, not {self.digest}")
        return speed / 1e6

    def programs_as_servers(self):
        scratch, files = self.scratch, self.scratch / "files"
        with self.group("redis-server", lambda place: workload.redis_server(place, REDIS, scratch), REDIS):
            self.row("redis SET+GET, 50 clients", "requests/s", lambda side: sum(
                workload.redis_benchmark(side.far, side.near.address, REDIS).values()) / 2)
            self.row("redis SET+GET, 50 clients, -P 16", "requests/s", lambda side: sum(
                workload.redis_benchmark(side.far, side.near.address, REDIS, requests=500000, pipeline=16).values()) / 2)
        with self.group("nginx", lambda place: workload.nginx(place, NGINX, folder(scratch, place), files), NGINX):
            self.row("nginx, keep-alive", "requests/s",
                     lambda side: workload.wrk(side.far, side.near.address, NGINX, "small", 3))
            self.row("nginx, a connection each", "requests/s",
                     lambda side: workload.wrk(side.far, side.near.address, NGINX, "small", 3, close=True))
            self.row("curl from nginx, 256 MiB checked", "MB/s",
                     lambda side: self.checked_file(side.far, f"http://{side.near.address}:{NGINX}/big"))
        with self.group("http.server", lambda place: workload.http_server(place, HTTP, files), HTTP):
            self.row("curl from http.server, 256 MiB checked", "MB/s",
                     lambda side: self.checked_file(side.far, f"http://{side.near.address}:{HTTP}/big"))

    def programs_as_clients(self):
        files = self.scratch / "files"
        with self.group("nginx-peer", lambda place: workload.nginx(place, NGINX, folder(self.scratch, place), files), NGINX,
                        where="far"):
            self.row("netrun curl, 256 MiB checked", "MB/s",
                     lambda side: self.checked_file(side.near, f"http://{side.far.address}:{NGINX}/big"))
        with self.group("iperf3-peer", lambda place: workload.iperf3_server(place, IPERF), IPERF, where="far"):
            self.row("netrun iperf3, sending", "MB/s",
                     lambda side: workload.iperf3(side.near, side.far.address, IPERF) / 1e6)
            self.row("netrun iperf3 -R, receiving", "MB/s",
                     lambda side: workload.iperf3(side.near, side.far.address, IPERF, reverse=True) / 1e6)

    def nothing_left(self, bed):
        say("netctl: does netd hold sockets or memory now that the programs have ended?")
        left = leaks.held(bed, patience=10)
        if left:
            self.wrong.append("sockets left")
            say("WRONG: netd still holds:\n" + "\n".join(left))
        else:
            say("no socket is left, and no memory of one")

    def print_table(self):
        print(f"\n{'':40}  {'netd':>12}  {'kernel':>12}  {'ratio':>6}")
        for title, unit, ours, theirs in self.table:
            cells = [f"{figure:12,.0f}" if figure is not None else f"{'failed':>12}" for figure in (ours, theirs)]
            ratio = f"{ours / theirs:6.2f}" if ours and theirs else f"{'':6}"
            print(f"{title:40}  {cells[0]}  {cells[1]}  {ratio}  {unit}")
        print("\nprograms on netd, peer: the kernel over a TAP | the same on the kernel, peer: the kernel over veth; single runs")


def say(text):
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


def folder(scratch, place):
    path = scratch / place.name.replace(" ", "-")
    path.mkdir(exist_ok=True)
    return path


def show(options, cleanup):
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="netd-demo-"))
    cleanup.callback(shutil.rmtree, scratch, ignore_errors=True)
    say("building (build/release)")
    paths.ensure_built(quiet=False)

    say("starting netd in a namespace whose kernel is the peer")
    bed = Testbed.up(NAME, cpus="")
    if not options.keep:
        cleanup.callback(Testbed.down, NAME)
    say(f"netd serves at {bed.netd_address}, the kernel is {bed.peer_address}")
    pair = VethPair.up(NAME)
    cleanup.callback(VethPair.down, NAME)

    (scratch / "files").mkdir()
    (scratch / "files" / "small").write_text("x" * 612)
    digest = workload.random_file(scratch / "files" / "big", FILE_BYTES)
    kernel_near, kernel_far = workload.on_veth(pair)
    sides = [Side("netd", workload.on_netd(bed), workload.on_peer(bed)), Side("kernel", kernel_near, kernel_far)]
    demo = Demo(sides, scratch, digest)
    demo.programs_as_servers()
    demo.programs_as_clients()
    demo.nothing_left(bed)
    if not bed.netd_is_alive():
        demo.wrong.append("netd ended")
        say(f"WRONG: netd has ended; the end of its log:\n{workload.process.tail_of_file(bed.log)}")
    demo.print_table()
    if options.keep:
        print(f'\nThe testbed stays: eval "$(tools/testbed env --name {NAME})"; $NETRUN CMD; '
              f"tools/testbed exec --name {NAME} CMD; tools/testbed down --name {NAME}")
    if demo.wrong:
        print("\nnot right: " + "; ".join(demo.wrong))
        return 1
    print("\nevery step was right")
    return 0


def main():
    parser = argparse.ArgumentParser(prog="./demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the testbed up at the end and say how to use it")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    reason = why_not_possible()
    if reason:
        raise ToolError(reason)
    with contextlib.ExitStack() as cleanup:
        return show(options, cleanup)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToolError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
