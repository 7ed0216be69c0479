"""A testbed: a namespace whose kernel is the peer, netd in it on a TAP, and the addresses of both.

netd runs inside the peer's namespace, because the TAP that it opens is then born where the kernel side of it is wanted;
netd needs nothing else of that namespace, and UNIX sockets cross namespaces, so netrun runs anywhere.
State stands in a private directory, so that `down` works from another shell and after a crash.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess

from . import paths, process
from .namespace import Namespace, add_address, add_address6
from .process import ToolError

DEVICE = "nd0"
# 10.SLOT.0.0/24 and fd00:SLOT::/64 belong to one testbed, 10.SLOT.1.0/24 and fd00:SLOT:1::/64 to one veth pair.
SLOTS = range(77, 250)

CONFIG = """\
socket = "{socket}"
cpus = "{cpus}"

[log]
level = "info"

[[interface]]
driver = "{driver}"
name = "{tap}"
address = ["{addr}", "{addr6}"]
mtu = 1500
queues = 0
"""

ROUTES = """
[[route]]
destination = "0.0.0.0/0"
gateway = "{gateway}"

[[route]]
destination = "::/0"
gateway = "{gateway6}"
"""


class StateDirectory:
    """The directory of one running thing (a testbed, a veth pair): its name, its lock-protected slot, its state.json."""

    def __init__(self, kind, name):
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,19}", name):
            raise ToolError(f"bad name '{name}': lower-case letters, digits and '-', at most 20")
        self.kind, self.name = kind, name
        self.path = paths.state_root() / f"netd-{kind}-{os.getuid()}-{name}"

    def claim(self):
        """Makes the directory with a slot that no other has. Refuses one that is there."""
        root = paths.state_root()
        descriptor = os.open(root / f"netd-slots-{os.getuid()}", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.exists():
                paths.private_directory(self.path)
                state = "is already up" if self.load(missing_ok=True) else "has left-overs"
                what = "testbed" if self.kind == "testbed" else f"testbed {self.kind}"
                raise ToolError(f"{self.kind} '{self.name}' {state} ({self.path}); tools/{what} down --name {self.name} removes it")
            taken = set()
            for other in root.glob(f"netd-*-{os.getuid()}-*/slot"):
                with contextlib.suppress(OSError, ValueError):
                    taken.add(int(other.read_text()))
            free = [slot for slot in SLOTS if slot not in taken]
            if not free:
                raise ToolError(f"all {len(SLOTS)} subnets are in use; take some testbed down")
            paths.private_directory(self.path)
            (self.path / "slot").write_text(str(free[0]))
            return free[0]

    def save(self, state):
        temporary = self.path / "state.json.new"
        temporary.write_text(json.dumps(state, indent=1))
        temporary.rename(self.path / "state.json")

    def load(self, missing_ok=False):
        try:
            return json.loads((self.path / "state.json").read_text())
        except FileNotFoundError:
            if missing_ok:
                return None
            raise ToolError(f"{self.kind} '{self.name}' is not up") from None

    def remove(self):
        if self.path.exists():
            paths.private_directory(self.path)
            shutil.rmtree(self.path)


class Testbed:
    """A testbed that is up. `peer` is the kernel's namespace; the addresses are plain strings."""

    def __init__(self, directory, state):
        self.directory = directory
        self.name = directory.name
        self.state = state
        self.peer = Namespace.load(state["peer"])
        self.socket = str(directory.path / "netd.sock")
        self.log = directory.path / "netd.log"
        self.netd_address = f"10.{state['slot']}.0.2"
        self.peer_address = f"10.{state['slot']}.0.1"
        self.netd_address6 = f"fd00:{state['slot']}::2"
        self.peer_address6 = f"fd00:{state['slot']}::1"

    @classmethod
    def up(cls, name="default", cpus=None, driver="tap", config=None):
        """cpus: a list for netd's --cpus; None: every CPU, which is what tests want; "": what netd takes by itself."""
        paths.ensure_built()
        directory = StateDirectory("testbed", name)
        if driver == "tap":
            _require_tun()
        text = CONFIG + ("" if driver == "loopback" else ROUTES)  # behind a loopback there is nothing
        if config:
            try:
                with open(config) as file:
                    text = file.read()
            except OSError as error:
                raise ToolError(f"--config {config}: {error.strerror}") from None
        slot = directory.claim()
        try:
            peer = Namespace.create(f"nd-{name}-peer")
            bed = cls(directory, {"slot": slot, "peer": peer.describe(), "netd": None, "cpus": _own_cpus() if cpus is None else cpus, "driver": driver})
            directory.save(bed.state)
            bed._start_netd(text)
            if driver != "loopback":
                bed._join(driver)
        except BaseException as failure:
            log = process.tail_of_file(directory.path / "netd.log")
            cls.down(name)
            if log and isinstance(failure, ToolError):
                raise ToolError(f"{failure}\n--- the end of netd's log:\n{log}".rstrip()) from None
            raise
        return bed

    @classmethod
    def load(cls, name="default"):
        directory = StateDirectory("testbed", name)
        return cls(directory, directory.load())

    @classmethod
    def down(cls, name="default"):
        """Takes down whatever of the testbed is there. True if there was something."""
        directory = StateDirectory("testbed", name)
        if not directory.path.exists():
            return False
        state = directory.load(missing_ok=True)
        if state:
            if state["netd"]:
                process.end(state["netd"])
            Namespace.load(state["peer"]).delete()
        directory.remove()
        return True

    def _start_netd(self, text):
        cpus = self.state["cpus"]
        values = {"socket": self.socket, "cpus": cpus, "driver": self.state["driver"], "tap": DEVICE, "addr": f"{self.netd_address}/24",
                  "gateway": self.peer_address, "addr6": f"{self.netd_address6}/64", "gateway6": self.peer_address6}
        for key, value in values.items():
            text = text.replace("{" + key + "}", value)
        config = self.directory.path / "netd.toml"
        config.write_text(text)
        command = [*self.peer.prefix, paths.program("netd"), "--config", config, "--socket", self.socket, "--cpus", cpus]
        with open(self.log, "w") as log:
            netd = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    start_new_session=True, cwd="/")
        self.process = netd
        self.state["netd"] = process.identity(netd.pid)
        self.directory.save(self.state)
        process.wait_until(lambda: netd.poll() is not None or self.answers(), 15)
        if netd.poll() is not None:
            raise ToolError(f"netd ended with {_exit_text(netd.returncode)}")
        if not self.answers():
            raise ToolError(f"netd does not accept on {self.socket} after 15 s")

    def _device_is_there(self):
        return self.peer.run(["ip", "link", "show", DEVICE], check=False).returncode == 0

    def _join(self, driver):
        if not process.wait_until(self._device_is_there, 5, step=0.1):
            raise ToolError(f"netd serves, but made no device {DEVICE} (driver '{driver}')")
        add_address(self.peer, DEVICE, self.peer_address)
        addresses = [address for address in (self.netd_address, self.netd_address6) if self.serves(address)]
        if self.netd_address6 in addresses:
            add_address6(self.peer, DEVICE, self.peer_address6)

        def pings(address):
            return self.peer.run(["ping", "-n", "-q", "-c1", "-W1", address], check=False).returncode == 0

        for address in addresses:
            if not process.wait_until(lambda: pings(address), 10, step=0.1):
                raise ToolError(f"netd does not answer ping at {address}")

    def serves(self, address):
        """A configuration of the caller's own may have left it out."""
        return f'"{address}/' in (self.directory.path / "netd.toml").read_text()

    def answers(self):
        """Does netd accept on its socket?"""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as seqpacket, socket.socket(socket.AF_UNIX) as stream:
            for probe in (seqpacket, stream):
                with contextlib.suppress(OSError):
                    probe.connect(self.socket)
                    return True
        return False

    def netd_is_alive(self):
        return self.state["netd"] is not None and process.is_alive(self.state["netd"])

    def kill_netd(self, number=signal.SIGKILL):
        """What a crash of netd looks like to its programs, or its orderly end."""
        if self.netd_is_alive():
            os.kill(self.state["netd"][0], number)
            process.wait_until(lambda: not self.netd_is_alive(), 5)

    def start_netd_again(self):
        """After kill_netd(): with the same configuration, and a device made anew."""
        process.wait_until(lambda: not self._device_is_there(), 10, step=0.05)  # the kernel lets go after the process has ended
        self._start_netd((self.directory.path / "netd.toml").read_text())
        self._join(self.state["driver"])

    def netrun(self, *options):
        return [str(paths.program("netrun")), "--socket", self.socket, *options]

    def netctl(self, *arguments):
        return [str(paths.program("netctl")), "--socket", self.socket, *arguments]

    def environment(self):
        return {"NETD_SOCKET": self.socket, "NETD_ADDR": self.netd_address, "PEER_ADDR": self.peer_address,
                "NETD_ADDR6": self.netd_address6, "PEER_ADDR6": self.peer_address6,
                "PEER_NS": self.peer.path, "NETRUN": str(paths.program("netrun")), "NETCTL": str(paths.program("netctl"))}


class VethPair:
    """Two namespaces joined by a veth pair: the kernel against itself, for comparison. `a` serves, `b` asks."""

    def __init__(self, directory, state):
        self.directory = directory
        self.state = state
        self.a, self.b = Namespace.load(state["a"]), Namespace.load(state["b"])
        self.a_address, self.b_address = f"10.{state['slot']}.1.1", f"10.{state['slot']}.1.2"
        self.a_address6, self.b_address6 = f"fd00:{state['slot']}:1::1", f"fd00:{state['slot']}:1::2"

    @classmethod
    def up(cls, name="default"):
        directory = StateDirectory("veth", name)
        slot = directory.claim()
        made = []
        try:
            made.append(Namespace.create(f"nd-{name}-a"))
            made.append(Namespace.create(f"nd-{name}-b", beside=made[0]))
            a, b = made
            pair = cls(directory, {"slot": slot, "a": a.describe(), "b": b.describe()})
            directory.save(pair.state)
            target = str(b.holder[0]) if b.holder else b.name
            a.run(["ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", target])
            add_address(a, "veth0", pair.a_address)
            add_address(b, "veth0", pair.b_address)
            add_address6(a, "veth0", pair.a_address6)
            add_address6(b, "veth0", pair.b_address6)
        except BaseException:
            for space in reversed(made):
                space.delete()
            directory.remove()
            raise
        return pair

    @classmethod
    def load(cls, name="default"):
        directory = StateDirectory("veth", name)
        return cls(directory, directory.load())

    @classmethod
    def down(cls, name="default"):
        directory = StateDirectory("veth", name)
        if not directory.path.exists():
            return False
        state = directory.load(missing_ok=True)
        if state:
            for side in ("b", "a"):
                Namespace.load(state[side]).delete()
        directory.remove()
        return True


def why_not_possible():
    """Why no testbed can run here, or None: what a test says when it is skipped."""
    try:
        _require_tun()
        name = f"nd-probe-{os.getpid()}"
        probe = Namespace.create(name)
    except ToolError as error:
        return str(error)
    try:
        made = probe.run(["ip", "tuntap", "add", "dev", "nd0", "mode", "tap"], check=False)
        return None if made.returncode == 0 else f"no TAP in a namespace: {made.stderr.strip()}"
    finally:
        probe.delete()


def _require_tun():
    if not os.path.exists("/dev/net/tun"):
        raise ToolError("no TUN device: /dev/net/tun is not there (modprobe tun, or give it to the container)")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise ToolError("no TUN device: /dev/net/tun is not writable by this user (root: chmod 0666 /dev/net/tun)")


def _own_cpus():
    return ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0)))


def _exit_text(code):
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
