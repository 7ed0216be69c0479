"""The daemon from outside: start and stop, exit codes, and what it does with peers that misbehave on its socket."""

import errno
import json
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
import unittest

NETD, NETCTL = sys.argv[1:3]
ABI = (pathlib.Path(__file__).resolve().parents[2] / "sockbuf" / "abi.hpp").read_text()
MAGIC, VERSION = 0x4E455444, int(re.search(r"abi_version = (\d+);", ABI)[1])
ATTACH, WAITER, FORK, DROP_WAITER, CONTROL, WAKER, SHARE = range(1, 8)

# Starts netd three times in a namespace with a TAP that outlives its programs: beside one that holds it, beside one that
# lets it go a moment later, and behind the netd before it.
ON_A_HELD_TAP = """
import fcntl, os, struct, subprocess, sys, time
def start_netd(meanwhile=lambda: None):
    netd = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE, text=True)
    meanwhile()
    for line in netd.stderr:
        if "netd ready" in line or line.startswith("netd:"):
            print("ready" if "ready" in line else line.strip(), flush=True)
            break
    netd.terminate()
    netd.communicate()
def let_go():
    time.sleep(0.2)
    os.close(tap)
tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", b"nd0", 0x5002))  # TUNSETIFF: TAP, vnet header, nothing else in front
fcntl.ioctl(tap, 0x400454cb, 1)  # TUNSETPERSIST
subprocess.run(["ip", "link", "set", "nd0", "up"], check=True)
start_netd()
start_netd(let_go)
start_netd()
"""
NAMESPACE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]


def may_make_taps():
    tap = [*NAMESPACE, "ip", "tuntap", "add", "dev", "nd0", "mode", "tap"]
    return os.access("/dev/net/tun", os.R_OK | os.W_OK) and subprocess.run(tap, capture_output=True).returncode == 0


def request(hello, value=0, magic=MAGIC, version=VERSION):
    return struct.pack("<IIIi", magic, version, hello, value)


class Daemon:
    def __init__(self, directory, *arguments, config=None):
        self.path = os.path.join(directory, "s")
        command = [NETD, "--socket", self.path, *arguments]
        if config is not None:
            file = os.path.join(directory, "netd.toml")
            with open(file, "w") as f:
                f.write(config)
            command += ["--config", file]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            if "netd ready" in line:
                return
        self.process.wait()

    def connect(self):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.settimeout(10)
        s.connect(self.path)
        return s

    def stat(self):
        out = subprocess.run([NETCTL, "--socket", self.path, "stat", "--json"], capture_output=True, text=True, check=True)
        return {name: v["total"] for name, v in json.loads(out.stdout)["counters"].items()}

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.log += self.process.communicate(timeout=20)[1].splitlines(keepends=True)
        return self.process.returncode


class Peer:
    """A process of netd's, as far as the socket shows it."""

    def __init__(self, daemon, share=None):
        self.s = daemon.connect()
        self.s.send(request(ATTACH) if share is None else request(SHARE) + struct.pack("32s", share))
        data, fds, _, _ = socket.recv_fds(self.s, 64, 80)
        self.error, _, self.segment_bytes, self.page_bytes, self.process, self.cpus, _ = struct.unpack("<iIQIIII", data)
        self.fds = fds

    def ask(self, hello, value=0):
        self.s.send(request(hello, value))
        data, fds, _, _ = socket.recv_fds(self.s, 64, 4)
        return *struct.unpack("<iI", data), fds

    def close(self):
        for fd in self.fds:
            os.close(fd)
        self.s.close()


class DaemonTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def start(self, *arguments, config=None):
        daemon = Daemon(self.directory.name, *arguments, config=config)
        self.addCleanup(lambda: (daemon.process.kill(), daemon.process.wait(), daemon.process.stderr.close())
                        if daemon.process.poll() is None else None)
        return daemon

    def wait_for(self, condition):
        for _ in range(500):
            if condition():
                return
            time.sleep(0.02)
        self.fail("did not happen")

    def test_start_stop_and_restart(self):
        daemon = self.start("--cpus", "0")
        self.assertIn("netd ready", daemon.log[-1])
        second = subprocess.run([NETD, "--socket", daemon.path], capture_output=True, text=True)
        self.assertEqual((second.returncode, second.stderr), (69, f"netd: netd already running on {daemon.path}\n"))
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse(os.path.exists(daemon.path))
        third = subprocess.run([NETCTL, "--socket", daemon.path, "ss"], capture_output=True, text=True)
        self.assertEqual((third.returncode, third.stderr), (69, f"netctl: netd is not running on {daemon.path}\n"))
        killed = self.start()
        killed.stop(signal.SIGKILL)
        self.assertTrue(os.path.exists(killed.path))
        again = self.start()
        self.assertIn("netd ready", again.log[-1])
        self.assertEqual(again.stop(signal.SIGINT), 0)

    @unittest.skipUnless(may_make_taps(), "needs a TUN device and a network namespace")
    def test_a_tap_is_waited_for_until_who_had_it_lets_go(self):
        file = os.path.join(self.directory.name, "netd.toml")
        with open(file, "w") as f:
            f.write('[[interface]]\ndriver = "tap"\nname = "nd0"\naddress = "10.0.0.1/24"\n')
        socket_path = os.path.join(self.directory.name, "s")
        said = subprocess.run([*NAMESPACE, sys.executable, "-c", ON_A_HELD_TAP, NETD, "--cpus", "0", "--config", file, "--socket", socket_path],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(said.stdout.splitlines(), ["netd: interface nd0 is in use: another program (another netd?) has it open", "ready", "ready"],
                         said.stderr)

    def test_a_hangup_is_an_orderly_end_unless_it_was_ignored(self):
        self.addCleanup(signal.signal, signal.SIGHUP, signal.signal(signal.SIGHUP, signal.SIG_DFL))
        daemon = self.start()
        self.assertEqual(daemon.stop(signal.SIGHUP), 0)
        self.assertFalse(os.path.exists(daemon.path))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        deaf = self.start()
        deaf.process.send_signal(signal.SIGHUP)
        deaf.stat()
        self.assertEqual(deaf.stop(), 0)
        self.assertNotIn("HUP", "".join(deaf.log))

    def test_bad_use(self):
        def run(*arguments):
            done = subprocess.run([NETD, *arguments], capture_output=True, text=True)
            return done.returncode, done.stderr
        self.assertEqual(run("--nonsense")[0], 64)
        self.assertEqual(run("--cpus", "9999")[0], 64)
        self.assertEqual(run("--version")[0], 0)
        file = os.path.join(self.directory.name, "bad.toml")
        with open(file, "w") as f:
            f.write("[log]\nlevle = 1\n")
        self.assertEqual(run("--check-config", "--config", file), (78, f"netd: {file}:2: log.levle: is not a key netd knows\n"))
        self.assertEqual(run("--socket", "/nonexistent/s")[0], 71)

    def test_what_start_refuses_the_check_refuses(self):
        file = os.path.join(self.directory.name, "bad.toml")
        tap = '[[interface]]\ndriver = "tap"\nname = "nd0"\naddress = "10.0.0.1/24"\n'
        routes = "".join(f'[[route]]\ndestination = "10.{i}.0.0/16"\ngateway = "10.0.0.2"\n' for i in range(1, 65))
        cases = [
            (tap + "queues = 2\n", ("--cpus", "0"), 78, "interface nd0: 2 queues for 1 CPU; every CPU has one (queues = 0)"),
            (f'socket = "/tmp/{"x" * 103}"\n', (), 64, "longer than 107 bytes"),
            ("", ("--socket", "/tmp/" + "x" * 103), 64, "longer than 107 bytes"),
            (tap + routes, (), 78, "66 addresses, networks and routes; netd can announce 64"),
        ]
        if os.cpu_count() > 1:
            cases.append(("[limits]\nring_bytes = 16777216\n", ("--cpus", "0,1"), 78, "2 protocol threads need 33554432"))
        for text, more, code, words in cases:
            with open(file, "w") as f:
                f.write(text)
            for check in (["--check-config"], []):
                done = subprocess.run([NETD, "--config", file, *more, *check], capture_output=True, text=True)
                self.assertEqual(done.returncode, code, done.stdout + done.stderr)
                self.assertIn(words, done.stderr)

    @unittest.skipUnless(os.geteuid() == 0 and os.access("/usr/bin/setpriv", os.X_OK) and os.path.exists("/dev/net/tun"),
                         "needs root, setpriv and a TUN device")
    def test_a_missing_privilege_is_said_with_what_helps(self):
        os.chmod(self.directory.name, 0o777)
        program = shutil.copy(NETD, self.directory.name)
        file = os.path.join(self.directory.name, "netd.toml")
        with open(file, "w") as f:
            f.write('[[interface]]\ndriver = "tap"\nname = "ndtest"\naddress = "10.0.0.1/24"\n')

        def refused(*who):
            done = subprocess.run(["setpriv", *who, program, "--config", file, "--socket", os.path.join(self.directory.name, "p")],
                                  capture_output=True, text=True, timeout=20)
            self.assertEqual(done.returncode, 77, done.stderr)
            return done.stderr
        interface = "netd needs CAP_NET_ADMIN in its network namespace"
        self.assertIn(interface, refused("--bounding-set=-net_admin"))
        mode = stat.S_IMODE(os.stat("/dev/net/tun").st_mode)
        device = f"its mode is {mode:04o} and its owner user 0, netd runs as user 65534: as root, 'chmod 0666 /dev/net/tun'"
        self.assertIn(interface if mode & 6 == 6 else device, refused("--reuid=65534", "--clear-groups"))

    def test_attach_waiters_and_fork(self):
        daemon = self.start()
        peer = Peer(daemon)
        self.assertEqual((peer.error, peer.process, len(peer.fds)), (0, 0, 2 + peer.cpus))
        self.assertEqual(os.fstat(peer.fds[0]).st_size, peer.segment_bytes)
        self.assertEqual(daemon.stat()["clients"], 1)
        error, _, pipe = peer.ask(WAITER, 1)
        self.assertEqual((error, len(pipe)), (0, 1))
        self.assertTrue(os.get_blocking(pipe[0]))
        error, process, child = peer.ask(FORK)
        self.assertEqual((error, process, len(child)), (0, 1, 1))
        peer.close()
        self.assertEqual(daemon.stat()["clients"], 1)  # the child still lives
        os.close(child[0])
        self.wait_for(lambda: daemon.stat()["clients"] == 0)
        self.assertEqual(os.read(pipe[0], 1), b"")  # its waiters went with the process
        os.close(pipe[0])
        self.assertEqual(daemon.stop(), 0)

    def test_a_share_is_one_family(self):
        daemon = self.start()
        first, second, other, alone = (Peer(daemon, name) for name in (b"one", b"one", b"two", None))
        self.assertEqual([p.process for p in (first, second, other, alone)], [0, 1, 0, 0])
        self.assertEqual(daemon.stat()["clients"], 3)
        same = os.fstat(first.fds[0]).st_ino
        self.assertEqual([os.fstat(p.fds[0]).st_ino == same for p in (second, other, alone)], [True, False, False])
        first.close()
        third = Peer(daemon, b"one")  # the family lives on in the second
        self.assertEqual(os.fstat(third.fds[0]).st_ino, same)
        second.close()
        third.close()
        self.wait_for(lambda: daemon.stat()["clients"] == 2)
        self.assertNotEqual(os.fstat(Peer(daemon, b"one").fds[0]).st_ino, same)  # a new one

    def test_the_name_of_a_share_writes_no_line_of_its_own_into_the_log(self):
        daemon = self.start()
        first = Peer(daemon, b"one\nforged")
        children = [first.ask(FORK) for _ in range(62)]
        self.assertEqual({error for error, _, _ in children}, {0})
        alone = Peer(daemon, b"one\nforged")  # the share is full
        self.assertEqual((alone.error, alone.process), (0, 0))
        for p in (first, alone):
            p.close()
        for _, _, fds in children:
            os.close(fds[0])
        self.assertEqual(daemon.stop(), 0)
        log = "".join(daemon.log)
        self.assertIn("one?forged full", log)
        self.assertNotIn("\nforged", log)

    def test_shares_can_be_forbidden(self):
        daemon = self.start(config="[admission]\nshare = false\n")
        first, second = Peer(daemon, b"one"), Peer(daemon, b"one")
        self.assertEqual((first.process, second.process, daemon.stat()["clients"]), (0, 0, 2))

    def test_a_member_can_wake_another_and_holds_nothing_open(self):
        daemon = self.start()
        sleeper, waker = Peer(daemon, b"one"), Peer(daemon, b"one")
        error, index, pipe = sleeper.ask(WAITER, 1)
        self.assertEqual(error, 0)
        error, generation, way = waker.ask(WAKER, index)
        self.assertEqual((error, generation, len(way)), (0, 1, 1))
        end = os.open(f"/proc/self/fd/{way[0]}", os.O_WRONLY | os.O_NONBLOCK)
        os.write(end, b"x")
        os.close(end)
        self.assertEqual(os.read(pipe[0], 8), b"x")
        self.assertEqual(waker.ask(WAKER, 77)[0], errno.ENOENT)
        daemon.stop(signal.SIGKILL)
        self.assertEqual(os.read(pipe[0], 1), b"")  # netd's death is seen though the other holds its way

    def test_waiters_run_out(self):
        daemon = self.start()
        peer = Peer(daemon)
        errors = []
        for _ in range(130):
            error, _, fds = peer.ask(WAITER, 2)
            errors.append(error)
            for fd in fds:
                os.close(fd)
        self.assertEqual(errors, [0] * 128 + [28] * 2)  # ENOSPC
        peer.s.send(request(DROP_WAITER, 5))
        error, waiter, fds = peer.ask(WAITER, 1)
        self.assertEqual((error, waiter), (0, 5))
        os.close(fds[0])
        peer.close()
        self.assertEqual(daemon.stop(), 0)

    def test_nonsense_is_closed_and_harms_nobody(self):
        daemon = self.start()
        good = Peer(daemon)
        for packet in (b"x", request(ATTACH, magic=1), request(ATTACH) + b"more", request(99), request(WAITER, 1),
                       request(FORK), request(CONTROL, 77)):
            s = daemon.connect()
            s.send(packet)
            self.assertEqual(s.recv(100), b"", packet)
            s.close()
        old = daemon.connect()
        old.send(request(ATTACH, version=0))
        self.assertEqual(struct.unpack("<iI", old.recv(100)[:8]), (71, VERSION))  # EPROTO, and what netd speaks
        old.close()
        bad = Peer(daemon)
        bad.s.send(request(WAITER, 9))
        self.assertEqual(bad.s.recv(100), b"")
        bad.close()
        deaf = Peer(daemon)  # asks for ever and reads nothing
        with self.assertRaises(OSError):
            for _ in range(100000):
                deaf.s.send(request(FORK))
        deaf.close()
        self.assertEqual(good.ask(WAITER, 1)[0], 0)
        good.close()
        self.wait_for(lambda: daemon.stat()["clients"] == 0)
        self.assertEqual(daemon.stop(), 0)
        self.assertTrue(any("is not a request" in line for line in daemon.log))

    def test_who_asks_and_does_not_read_is_closed(self):
        daemon = self.start()
        deaf = []
        for _ in range(40):  # more than a user may have at a time
            s = daemon.connect()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            s.send(request(CONTROL, 2))
            deaf.append(s)

        def closed(s):
            p = select.poll()
            p.register(s, 0)
            return p.poll(0) != []
        time.sleep(1)
        refused = [closed(s) for s in deaf]
        self.assertEqual((any(refused[:8]), any(refused), all(refused[32:])), (False, True, True))
        self.wait_for(lambda: all(map(closed, deaf)))
        self.assertGreater(len(deaf[0].recv(65536)), 0)
        self.assertEqual(daemon.stat()["clients"], 0)
        for s in deaf:
            s.close()
        self.assertEqual(daemon.stop(), 0)
        self.assertTrue(any("does not read" in line for line in daemon.log))

    @unittest.skipUnless(os.geteuid() == 0, "needs root to be somebody else")
    def test_supplementary_groups_admit(self):
        daemon = self.start(config="[admission]\ngids = [4242]\n")
        os.chmod(self.directory.name, 0o711)
        for groups, wanted in (([7, 4242], True), (list(range(100, 400)) + [4242], True), ([7], False)):
            child = os.fork()
            if child == 0:
                answered = 2
                try:
                    os.setgroups(groups)
                    os.setgid(65534)
                    os.setuid(65534)
                    s = daemon.connect()
                    time.sleep(0.1)
                    s.send(request(CONTROL, 1))
                    answered = int(len(s.recv(65536)) > 0)
                except OSError:
                    answered = 0
                finally:
                    os._exit(answered)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(wanted), groups)
        self.assertEqual(daemon.stop(), 0)

    def test_who_is_turned_away_for_want_of_descriptors_does_not_fill_the_log(self):
        daemon = self.start("--cpus", "0")
        pid = daemon.process.pid
        before = len(os.listdir(f"/proc/{pid}/fd"))
        _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (before + 4, most))
        peers = [daemon.connect() for _ in range(4)]
        begin = time.monotonic()
        for _ in range(300):
            with daemon.connect() as refused:
                try:
                    self.assertEqual(refused.recv(100), b"")
                except ConnectionResetError:
                    pass
        allowed = 20 * (time.monotonic() - begin + 2)  # by the second
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        for s in peers:
            s.close()
        self.assertEqual(daemon.stat()["clients"], 0)
        self.assertEqual(daemon.stop(), 0)
        lines = [line for line in daemon.log if "out of descriptors" in line]
        self.assertGreater(len(lines), 0)
        self.assertLess(len(lines), allowed)

    def test_clients_are_limited(self):
        daemon = self.start(config="[limits]\nclients = 2\nsockets_per_client = 64\nring_bytes = 4294967296\n")
        peers = [Peer(daemon) for _ in range(3)]
        self.assertEqual([p.error for p in peers[:2]], [0, 0])
        self.assertNotEqual(peers[2].error, 0)
        for p in peers:
            p.close()
        self.assertEqual(daemon.stop(), 0)

    @unittest.skipIf(os.cpu_count() == 1, "of two threads")
    def test_ring_memory_too_small_is_said_so(self):
        daemon = self.start("--cpus", "0,1", config="[limits]\nring_bytes = 16777216\n")
        self.assertEqual(daemon.stop(), 78)
        self.assertIn("limits.ring_bytes: 16777216 is too small: 2 protocol threads need 33554432 at least", "".join(daemon.log))

    def test_families_have_doorbells_of_their_own(self):
        daemon = self.start()
        one, other = Peer(daemon), Peer(daemon)
        self.assertEqual(len(one.fds), 2 + one.cpus)
        for mine, theirs in zip(one.fds[2:], other.fds[2:]):
            os.write(mine, struct.pack("<Q", 2**64 - 2))
            self.assertRaises(BlockingIOError, os.read, theirs, 8)
            os.write(theirs, struct.pack("<Q", 1))
        for p in (one, other):
            p.close()
        self.assertEqual(daemon.stop(), 0)

    def test_a_family_that_ended_holds_nothing(self):
        def held():
            maps = pathlib.Path(f"/proc/{daemon.process.pid}/maps").read_text()
            return maps.count("netd-segment"), len(os.listdir(f"/proc/{daemon.process.pid}/fd"))

        daemon = self.start()
        before = held()
        self.assertEqual(before[0], 0)
        peers = [Peer(daemon) for _ in range(3)]
        self.assertEqual(held()[0], 3)
        for p in peers:
            p.close()
        self.wait_for(lambda: held() == before)
        self.assertEqual(daemon.stop(), 0)

    def test_output_that_cannot_be_written_is_said_so(self):
        daemon = self.start()
        for argv, code in (([NETCTL, "--socket", daemon.path, "stat"], 74), ([NETCTL, "--socket", daemon.path, "ss"], 74),
                           ([NETD, "--check-config"], 74)):
            with open("/dev/full", "w") as full:
                done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True)
            self.assertEqual(done.returncode, code, argv)
            self.assertIn("cannot write to standard output", done.stderr)
        for argv, code in (([NETD, "--config", "/nonexistent/c"], 78), ([NETCTL, "--socket", "/nonexistent/s", "ss"], 69)):
            with open("/dev/full", "w") as full:
                self.assertEqual(subprocess.run(argv, stderr=full).returncode, code, argv)
        self.assertEqual(daemon.stop(), 0)

    def test_netctl(self):
        daemon = self.start()
        out = subprocess.run([NETCTL, "--socket", daemon.path, "ss"], capture_output=True, text=True)
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertTrue(out.stdout.startswith("Type"), out.stdout)
        counters = daemon.stat()
        self.assertEqual(counters["sockets"], 0)
        self.assertGreater(counters["cpu.rounds"], 0)
        self.assertIn("ip.in", counters)
        self.assertIn("lo.in_packets", counters)
        for name in (
            "cpu.messages_in", "cpu.messages_out", "cpu.timer_late_max_us", "cpu.timer_late.to_1000_us", "steer.forwarded", "steer.shed",
            "packets.in_use", "packets.large_in_use", "tcp.in", "tcp.out_retransmits", "tcp.cookies_sent",
            "gateway.faults", "gateway.refused", "tcp.tcbs", "tcp.half_open", "tcp.time_wait", "tcp.listeners", "timers.armed",
        ):
            self.assertIn(name, counters)
        self.assertEqual(subprocess.run([NETCTL, "nonsense"], capture_output=True).returncode, 64)
        self.assertEqual(daemon.stop(), 0)

    def netctl_against(self, serve):
        """netctl against somebody who is not netd: exit code and what it printed."""
        path = os.path.join(self.directory.name, "fake")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(path)
            listener.listen()
            process = subprocess.Popen([NETCTL, "--socket", path, "stat"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            s, _ = listener.accept()
            with s:
                select.select([s], [], [])
                serve(s)
            out, err = process.communicate(timeout=20)
        os.unlink(path)
        return process.returncode, out, err

    def test_netctl_tells_being_turned_away_from_half_an_answer(self):
        code, _, err = self.netctl_against(lambda s: None)  # closed with the request unread
        self.assertEqual((code, "turned us away" in err), (77, True), err)
        code, _, err = self.netctl_against(lambda s: s.recv(100))
        self.assertEqual((code, "turned us away" in err), (77, True), err)

        def half(s):
            s.recv(100)
            s.send(b'{"name": "x", "value": 1}\n')
        code, out, err = self.netctl_against(half)
        self.assertEqual((code, out), (69, ""), err)

    @unittest.skipUnless(os.geteuid() != 0 or os.access("/usr/bin/setpriv", os.X_OK), "needs to be somebody else than root")
    def test_the_default_socket(self):
        os.chmod(self.directory.name, 0o755)
        program = shutil.copy(NETCTL, self.directory.name)
        who = [] if os.geteuid() != 0 else ["setpriv", "--reuid=65534", "--clear-groups"]

        def asks(runtime):
            out = subprocess.run([*who, program, "stat"], capture_output=True, text=True,
                                 env={"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": runtime})
            return out.stderr.strip().removeprefix("netctl: netd is not running on ")
        own = os.path.join(self.directory.name, "netd.sock")
        if not os.path.exists("/run/netd.sock"):
            self.assertEqual(asks(self.directory.name), "/run/netd.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
            dead.bind(own)
        os.chmod(own, 0o777)
        self.assertEqual(asks(self.directory.name), own)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
