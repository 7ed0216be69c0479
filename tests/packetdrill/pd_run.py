#!/usr/bin/env python3
"""Runs packetdrill scripts: against libnetd-packetdrill.so, loaded as packetdrill loads it, in virtual or real time, or
with --kernel against this machine's kernel (root), which shows that a script says what Linux does.

Every script runs in a process of its own. The last line is "N passed, N failed, N skipped".
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pd_packet
from pd_backends import LOCAL, PORT, REMOTE, Kernel, Library, libc
from pd_packet import ICMP, TCP, UDP, PacketError, options_text
from pd_script import IcmpPacket, ScriptError, TcpPacket, UdpPacket, parse
from pd_syscalls import Failure, Syscalls

HERE = pathlib.Path(__file__).resolve().parent
REMOTE_ISN = 3_000_000_000  # live numbers of the peer wrap soon
FIRST_PEER_PORT = 40000
TOLERANCE_US, TOLERANCE_PERCENT = 4000, 12.5
SCRIPT_SECONDS_MAX = 90


class Connection:
    """One flow: how the script's numbers become live ones."""

    def __init__(self, local_port, remote_port):
        self.local_port, self.remote_port = local_port, remote_port
        self.isn = None  # live number of the script's 0, on the stack's side
        self.clock = None  # live timestamp value minus the script's


class Worker:
    """The second thread, for calls that block."""

    def __init__(self, runner):
        self.runner = runner
        self.job = None  # (event, thunk, check)
        self.failure = None
        self.wake = threading.Condition()
        self.inside = False
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def loop(self):
        while True:
            with self.wake:
                self.wake.wait_for(lambda: self.job is not None)
                event, thunk, check = self.job
            if event is None:
                return
            self.inside = True
            result, code = thunk()
            self.inside = False  # first: once this thread has read the clock, time moves with the other one
            end = self.runner.backend.now()
            try:
                self.runner.check_end(event, end)
                self.runner.calls.finish(event.body, result, code, check)
            except Failure as e:
                self.failure = Failure(f"{event.line}: {e}")
            with self.wake:
                self.job = None
                self.wake.notify_all()

    def start(self, event, thunk, check):
        """Returns when the call sleeps (its thread's state is S) or is over."""
        with self.wake:
            self.job = (event, thunk, check)
            self.wake.notify_all()
        asleep, before = 0, None
        while self.job is not None and asleep < 4:
            time.sleep(0.0005)
            status = pathlib.Path(f"/proc/self/task/{self.thread.native_id}/status").read_text()
            # A thread that waits for the interpreter is in state S too, but wakes whenever this one sleeps.
            switches = status.partition("\nvoluntary_ctxt_switches:")[2]
            still = self.inside and "State:\tS" in status and switches == before
            asleep, before = asleep + 1 if still else 0, switches

    def finish(self, limit):
        """Lets time pass until the call is over; what this thread does after it takes none of the stack's time."""
        while self.job is not None:
            if not self.inside:
                with self.wake:
                    self.wake.wait_for(lambda: self.job is None or self.inside, 1)
                continue
            if self.runner.backend.now() > limit:
                raise Failure(f"{self.job[0].line}: {self.job[0].body.name} is still blocked")
            self.runner.backend.sleep(0.001)
        if self.failure is not None:
            raise self.failure

    def stop(self):
        if self.job is None:
            with self.wake:
                self.job = (None, None, None)
                self.wake.notify_all()
            self.thread.join()


class Runner:
    def __init__(self, backend, script, tolerance_us, environment):
        self.backend = backend
        self.script = script
        self.environment = environment
        given = int(script.options.get("tolerance_usecs", 0))
        self.tolerance = max(given, tolerance_us or TOLERANCE_US) / 1e6
        self.calls = Syscalls(backend)
        self.worker = Worker(self)
        self.connections = []
        self.last_expected = 0.0
        self.previous = 0.0  # the time of the event before the one under way
        self.started = 0.0
        self.names = {}
        self.udp_port = PORT

    # ---- time

    def resolve(self, event):
        """Turns an event's times into script time; None for "any"."""
        w = event.when
        if w.kind == "any":
            return None
        base = self.last_expected if w.kind == "relative" else 0.0
        event.start = base + w.start
        event.end = base + w.end if w.end is not None else None
        return event.start

    def script_time(self):
        return self.backend.now() - self.started

    def sleep_until(self, moment):
        while (left := moment - self.script_time()) > 0:
            self.backend.sleep(left if self.backend.virtual or left < 0.001 else left - 0.0005)

    def slack(self, moment):
        return max(self.tolerance, (moment - self.previous) * TOLERANCE_PERCENT / 100)

    def check_time(self, what, at, first, last):
        if at < first - self.slack(first) or at > last + self.slack(last):
            wanted = f"{first:.6f}" + (f" to {last:.6f}" if last != first else "")
            raise Failure(f"{what} at {at:.6f}, the script says {wanted}")

    def check_end(self, event, live):
        at = live - self.started
        self.check_time(f"{event.body.name} ended", at, event.end, event.end)

    # ---- packets in

    def connection_for(self, packet):
        opens = "S" in packet.flags and "." not in packet.flags
        if not self.connections or (opens and self.connections[-1].isn == "closed"):
            self.connections.append(Connection(PORT, FIRST_PEER_PORT + len(self.connections)))
        return self.connections[-1]

    def inject(self, packet):
        back = (REMOTE, LOCAL)
        tos = pd_packet.ECN.get(getattr(packet, "ecn", None), 0)
        match packet:
            case TcpPacket():
                self.backend.send(pd_packet.ipv4(*back, TCP, self.segment(packet), tos))
            case UdpPacket():
                datagram = pd_packet.udp((PORT, self.udp_port), b"\0" * packet.length, back)
                self.backend.send(pd_packet.ipv4(*back, UDP, datagram))
            case IcmpPacket():
                error = pd_packet.icmp_error(packet.type, packet.code, packet.mtu, self.quote(packet))
                self.backend.send(pd_packet.ipv4(*back, ICMP, error))

    def segment(self, p):
        c = self.connection_for(p)
        options = []
        for name, *values in p.options:
            if name == "TS" and values[1] != 0 and c.clock is not None:
                values = [values[0], values[1] + c.clock]
            if name == "sack":
                values = [(a + c.isn, b + c.isn) for a, b in values]
            options.append((name, *values))
        ack = p.ack + c.isn if p.ack is not None and c.isn is not None else p.ack or 0
        return pd_packet.tcp((c.remote_port, c.local_port), p.seq + REMOTE_ISN, ack, p.flags, p.window or 0, options,
                             b"\0" * p.length, p.urgent or 0, (REMOTE, LOCAL))

    def quote(self, p):
        """The header and first bytes of a packet of the stack, as an ICMP error carries them."""
        forth = (LOCAL, REMOTE)
        if p.udp_length is not None:
            body = pd_packet.udp((self.udp_port, PORT), b"\0" * p.udp_length, forth)
            return pd_packet.ipv4(*forth, UDP, body)[:28]
        c = self.connections[-1]
        body = pd_packet.tcp((c.local_port, c.remote_port), (p.seq or 0) + c.isn, 0, ".", 0, [], b"\0" * p.length, 0, forth)
        return pd_packet.ipv4(*forth, TCP, body)[:48]

    # ---- packets out

    def receive(self, what):
        found = self.backend.receive()
        if found is None:
            raise Failure(f"nothing was sent, the script says {what}")
        return found

    def expect_out(self, event):
        wanted = event.body
        self.resolve(event)
        packet, live = self.receive(wanted)
        at = live - self.started
        if event.when.kind != "any":
            last = event.end if event.end is not None else event.start
            self.check_time(f"«{packet.text()}» was sent", at, event.start, last)
        if isinstance(wanted, UdpPacket):
            self.compare_udp(wanted, packet)
        else:
            self.compare_tcp(wanted, packet)
        return at

    def compare_udp(self, wanted, packet):
        if packet.protocol != UDP or len(packet.payload) != wanted.length or packet.ports[1] != PORT:
            raise Failure(f"«{packet.text()}» was sent, the script says a datagram of {wanted.length} bytes to port {PORT}")
        self.udp_port = packet.ports[0]

    def flow_of(self, packet, wanted):
        for c in reversed(self.connections):
            if (c.local_port, c.remote_port) == packet.ports:
                return c
        if "S" in packet.flags:
            self.connections.append(Connection(*packet.ports))
            return self.connections[-1]
        raise Failure(f"«{packet.text()}» belongs to no connection, the script says {wanted}")

    def joined(self, packet, length):
        """The tool takes segments that continue each other for one that a script writes as one."""
        payload = packet.payload
        flags = packet.flags
        while len(payload) < length and payload:
            more, _ = self.receive(f"{length - len(payload)} bytes more")
            if more.protocol != TCP or more.seq != (packet.seq + len(payload)) & 0xFFFFFFFF or more.ack != packet.ack:
                raise Failure(f"«{more.text()}» does not continue «{packet.text()}»")
            payload += more.payload
            flags = "".join(sorted(set(flags) | set(more.flags)))
        return len(payload), flags

    def compare_tcp(self, wanted, packet):
        if packet.protocol != TCP or (packet.source, packet.destination) != (LOCAL, REMOTE):
            raise Failure(f"«{packet.text()}» was sent, the script says {wanted}")
        c = self.flow_of(packet, wanted)
        if c.isn in (None, "closed") and "R" not in packet.flags:
            c.isn = (packet.seq - wanted.seq) & 0xFFFFFFFF
        isn = c.isn if isinstance(c.isn, int) else 0
        length, flags = self.joined(packet, wanted.length)
        seq = (packet.seq - isn) & 0xFFFFFFFF
        ack = (packet.ack - REMOTE_ISN) & 0xFFFFFFFF if "." in packet.flags else None
        options = self.script_options(c, packet.options, wanted)
        shown = (f"{flags} {seq}:{seq + length}({length}) ack {ack} win {packet.window} urg {packet.urgent} "
                 f"{options_text(options)}")
        same = (flags, seq, length, ack) == (wanted.flags, wanted.seq, wanted.length, wanted.ack)
        same &= wanted.window is None or wanted.window == packet.window
        same &= wanted.any_options or options == wanted.options
        same &= wanted.urgent is None or wanted.urgent == packet.urgent
        same &= wanted.ecn is None or pd_packet.ECN[wanted.ecn] == packet.tos & 3
        same &= packet.dont_fragment and packet.ttl == 64
        if not same:
            raise Failure(f"«{shown}» was sent (tos {packet.tos}, ttl {packet.ttl}), the script says {wanted}")
        if "R" in flags:
            c.isn = "closed"

    def script_options(self, c, options, wanted):
        """Live options with the script's numbers. A timestamp value is compared for its distance from the first one."""
        found = []
        said = next((o[1] for o in wanted.options or [] if o[0] == "TS"), None)
        for name, *values in options:
            if name == "TS":
                if c.clock is None:
                    c.clock = values[0] - (said if said is not None else 0)
                value = (values[0] - c.clock) & 0xFFFFFFFF
                near = said is not None and abs(value - said) <= max(self.tolerance * 1000, value * TOLERANCE_PERCENT / 100)
                values = [said if near else value, values[1]]
            if name == "sack":
                values = [((a - REMOTE_ISN) & 0xFFFFFFFF, (b - REMOTE_ISN) & 0xFFFFFFFF) for a, b in values]
            found.append((name, *values))
        return found

    # ---- the run

    def shell(self, text):
        subprocess.run(["sh", "-ec", text], check=True, env=self.environment)

    def make_call(self, event):
        self.worker.finish(self.backend.now() + 10)
        thunk, check = self.calls.begin(event.body)
        if event.when.blocking:
            self.worker.start(event, thunk, check)
        else:
            result, code = thunk()
            self.calls.finish(event.body, result, code, check)

    def run_event(self, event):
        if event.kind == "out":
            return self.expect_out(event)
        moment = self.resolve(event)
        if moment is not None:
            self.sleep_until(moment)
        match event.kind:
            case "in":
                self.inject(event.body)
            case "call":
                self.make_call(event)
            case "code":
                try:
                    exec(event.body.strip(), {}, self.calls.code_names())  # pylint: disable=exec-used
                except AssertionError as e:
                    raise Failure(f"«{event.body.strip()}» does not hold: {e}") from None
            case "shell":
                self.shell(event.body)
        return self.script_time()

    def run(self):
        events = list(self.script.events)
        while events and events[0].kind == "shell":
            self.shell(events.pop(0).body)
        self.backend.sleep(0.1)  # as the tool spins before the first event
        self.started = self.backend.now()
        for event in events:
            try:
                actual = self.run_event(event)
            except (Failure, PacketError, ScriptError) as e:
                raise Failure(f"{event.line}: {e}") from None
            loose = event.when.kind == "any" or (event.when.end is not None and not event.when.blocking)
            self.last_expected = actual if loose else event.start
            self.previous = self.last_expected
        blocked = self.worker.job
        self.worker.finish(self.started + (blocked[0].end + 1 if blocked else 0) + 1)
        if left := self.backend.leftover(self.backend.now()):
            raise Failure(f"at the end: «{left.text()}» was sent and is not in the script")
        self.end()

    def end(self):
        self.worker.stop()
        self.calls.close_all()
        for c in self.connections:
            if isinstance(c.isn, int):
                reset = pd_packet.tcp((c.remote_port, c.local_port), REMOTE_ISN, c.isn, "R.", 0, [], b"", 0, (REMOTE, LOCAL))
                self.backend.send(pd_packet.ipv4(REMOTE, LOCAL, TCP, reset))
        self.backend.finish()


def environment(arguments):
    """For a script's shell lines: the stand-ins first in PATH, unless the kernel is what they configure."""
    found = dict(os.environ, PACKETDRILL_PID=str(os.getpid()))
    found.pop("LD_PRELOAD", None)
    if not arguments.kernel:
        found["PATH"] = f"{HERE / 'bin'}:{found.get('PATH', '')}"
    return found


def run_one(path, arguments):
    """In a process of its own: what went wrong, or nothing."""
    script = parse(path.read_text())
    os.environ["PACKETDRILL_PID"] = str(os.getpid())
    mtu = int(script.options.get("mtu", 1500))
    try:
        backend = Kernel(mtu) if arguments.kernel else Library(arguments.library, mtu, arguments.real)
        Runner(backend, script, arguments.tolerance_usecs, environment(arguments)).run()
    finally:
        pathlib.Path(f"/tmp/pd-{os.getpid()}.conf").unlink(missing_ok=True)


def in_child(path, arguments):
    """(exit code, text): 0 passed, 77 skipped, else failed."""
    with tempfile.TemporaryFile("w+") as log:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                signal.alarm(SCRIPT_SECONDS_MAX)
                run_one(path, arguments)
                code = 0
            except (Failure, ScriptError, PacketError) as e:
                os.write(1, f"{path}:{e}\n".encode())
            except BaseException as e:  # pylint: disable=broad-except
                import traceback
                os.write(1, (traceback.format_exc() if not isinstance(e, SystemExit) else str(e)).encode())
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        log.seek(0)
        text = log.read()
    if os.WIFSIGNALED(status):
        text += f"{path}: ended by signal {os.WTERMSIG(status)}\n"
    return os.waitstatus_to_exitcode(status), text


def not_for_kernel(path):
    """The reason that a script gives for saying something of our stack and not of Linux's."""
    for line in path.read_text().splitlines():
        if line.startswith("// kernel: "):
            return line.removeprefix("// kernel: ")
    return None


def preload(arguments):
    """Calls outside the interface must reach the stack too; a preload library must be there from the start."""
    library = str(pathlib.Path(arguments.library).with_name("libnetd-packetdrill-preload.so"))
    if not arguments.kernel and library not in os.environ.get("LD_PRELOAD", ""):
        before = os.environ.get("LD_PRELOAD")
        os.environ["LD_PRELOAD"] = library + (f":{before}" if before else "")
        os.execv(sys.executable, [sys.executable, *sys.argv])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", type=pathlib.Path, help="default: all of scripts/")
    build = os.environ.get("NETD_BUILD", str(HERE.parents[1] / "build" / "release"))
    parser.add_argument("--library", default=f"{build}/tests/packetdrill/libnetd-packetdrill.so")
    parser.add_argument("--real", action="store_true", help="real time: the stack has a thread of its own")
    parser.add_argument("--kernel", action="store_true", help="drive the kernel through a TUN device; root")
    parser.add_argument("--tolerance-usecs", type=int, default=0)
    parser.add_argument("--part", default="1/1", help="the Nth of M shares of the scripts, as in 1/4")
    parser.add_argument("--retries", type=int, default=0, help="rounds for those that failed (real time on a busy machine)")
    parser.add_argument("--differences", action="store_true", help="with --kernel: the scripts of differences/ as well")
    parser.add_argument("-v", "--verbose", action="store_true")
    arguments = parser.parse_args()
    if arguments.kernel and (os.geteuid() != 0 or not os.path.exists("/dev/net/tun")):
        print("skipped: --kernel needs root and /dev/net/tun")
        return 77
    preload(arguments)
    part, parts = map(int, arguments.part.split("/"))
    folders = ["scripts", "differences"] if arguments.differences else ["scripts"]
    scripts = (arguments.scripts or [p for folder in folders for p in sorted((HERE / folder).glob("*.pkt"))])[part - 1::parts]
    wanted, skipped = [], 0
    for path in scripts:
        reason = not_for_kernel(path) if arguments.kernel else None
        skipped += reason is not None
        wanted += [] if reason else [path]
        if reason:
            print(f"{path.name}: skipped: {reason}")
    failed = run_all(wanted, arguments)
    print(f"{len(wanted) - len(failed)} passed, {len(failed)} failed, {skipped} skipped")
    return 1 if failed or not scripts else 0


def run_all(scripts, arguments):
    """Those that failed, after the rounds that --retries allows. They are tried again after all others: a machine that was late
    for one (its CPUs were another's) may be in time then, and a script that is wrong stays so."""
    failed = []
    for number in range(1 + arguments.retries):
        failed = [path for path in scripts if not passes(path, arguments, number)]
        if not failed or (number == 0 and len(failed) > max(1, len(scripts) // 2)):
            break
        scripts = failed
    return failed


def passes(path, arguments, number):
    with Lateness() as late:
        code, text = in_child(path, arguments)
    if code != 0:
        print(f"{path.name}: failed, try {number + 1} of {1 + arguments.retries}; this machine was {late.most * 1000:.0f} ms late at most\n"
              f"{text}", end="", flush=True)
    elif arguments.verbose or number:
        print(f"{path.name}: ok\n{text}", end="", flush=True)
    return code == 0


class Lateness:
    """How late this machine woke a thread that slept, at most: what a script in real time has to live with."""

    PERIOD_S = 0.005

    def __enter__(self):
        self.most, self.over = 0.0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self):
        before = time.monotonic()
        while not self.over.wait(self.PERIOD_S):
            now = time.monotonic()
            self.most, before = max(self.most, now - before - self.PERIOD_S), now

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


if __name__ == "__main__":
    sys.exit(main())
