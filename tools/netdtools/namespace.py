"""Network namespaces: with root named ones (ip netns), without root inside a user namespace that a process holds open."""

import os
import re
import signal
import subprocess

from . import process
from .process import ToolError, run

# The kernel's default congestion control is not CUBIC everywhere, and the namespace's sysctl may be read-only; a route
# attribute works with neither privilege.
CONGESTION = ["congctl", "cubic"]


class Namespace:
    """One network namespace. `prefix` put before a command runs it inside; `describe()` is what load() needs again."""

    def __init__(self, name, holder=None, user_of=None):
        self.name = name
        self.holder = holder
        self.user_of = user_of or (holder and holder[0])

    @classmethod
    def create(cls, name, beside=None):
        """A new namespace; without root one that shares the user namespace of `beside`, so that a veth can join them."""
        if os.geteuid() == 0 and not os.environ.get("NETD_TESTBED_USERNS"):
            run(["ip", "netns", "add", name])
            space = cls(name)
        else:
            space = cls._hold(name, beside)
        try:
            space.run(["ip", "link", "set", "lo", "up"])
            for destination in ("127.0.0.0/8", "127.0.0.1"):
                space.run(["ip", "route", "replace", "local", destination, "dev", "lo", "table", "local", "proto", "kernel",
                           "scope", "host", "src", "127.0.0.1", *CONGESTION])
        except BaseException:
            space.delete()
            raise
        return space

    @classmethod
    def _hold(cls, name, beside):
        if beside:
            command = [*beside.prefix_user(), "unshare", "--net", "sleep", "infinity"]
        else:
            command = ["unshare", "--user", "--map-root-user", "--net", "sleep", "infinity"]
        holder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  start_new_session=True, text=True)

        def settled():
            return holder.poll() is not None or _program_of(holder.pid) == "sleep"

        if not process.wait_until(settled, 5) or holder.poll() is not None:
            said = holder.stderr.read().strip() if holder.poll() is not None else "no answer"
            holder.kill()
            raise ToolError(f"no user namespaces: {said}\n(not root, so the testbed needs them; "
                            "see the sysctls kernel.unprivileged_userns_clone and user.max_user_namespaces)")
        return cls(name, process.identity(holder.pid), beside.user_of if beside else None)

    def describe(self):
        return {"name": self.name, "holder": self.holder, "user_of": self.user_of}

    @classmethod
    def load(cls, described):
        return cls(described["name"], described["holder"], described["user_of"])

    @property
    def path(self):
        return f"/proc/{self.holder[0]}/ns/net" if self.holder else f"/run/netns/{self.name}"

    def prefix_user(self):
        return ["nsenter", "--preserve-credentials", f"--user=/proc/{self.user_of}/ns/user", "--"]

    @property
    def prefix(self):
        if self.holder:
            return [*self.prefix_user()[:-1], f"--net={self.path}", "--"]
        return ["nsenter", f"--net={self.path}", "--"]

    def run(self, argv, **options):
        return run([*self.prefix, *argv], **options)

    def exists(self):
        return process.is_alive(self.holder) if self.holder else os.path.exists(self.path)

    def processes(self):
        """Everybody inside, from /proc; nobody is there who was not started through this testbed."""
        if not self.exists():
            return []
        inode = os.stat(self.path).st_ino
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                try:
                    inside = os.stat(f"/proc/{entry}/ns/net").st_ino == inode
                except OSError:
                    continue
                if inside:
                    found.append(process.identity(int(entry)))
        return found

    def delete(self):
        """Ends who is inside and removes the namespace; nothing to do if it is gone."""
        inside = self.processes()
        if self.holder:
            inside = [who for who in inside if who[0] != self.holder[0]]
        for who in inside:
            if process.is_alive(who):
                os.kill(who[0], signal.SIGTERM)
        for who in inside:
            process.end(who)
        if self.holder:
            process.end(self.holder)
        elif os.path.exists(self.path):
            run(["ip", "netns", "del", self.name])


def _program_of(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""


def add_address(space, device, address, prefix_length=24):
    """Gives the device its address, brings it up and makes CUBIC the congestion control of every route over it."""
    network = re.sub(r"\d+$", "0", address)
    space.run(["ip", "address", "add", f"{address}/{prefix_length}", "dev", device])
    space.run(["ip", "link", "set", "dev", device, "txqueuelen", "1000", "up"])
    space.run(["ip", "route", "replace", f"{network}/{prefix_length}", "dev", device, "proto", "kernel", "scope", "link",
               "src", address, *CONGESTION])
    space.run(["ip", "route", "replace", "local", address, "dev", device, "table", "local", "proto", "kernel", "scope", "host",
               "src", address, *CONGESTION])


def add_address6(space, device, address, prefix_length=64):
    """The same for IPv6, without waiting for duplicates: the link is ours."""
    network = address[:address.rindex("::")] + "::"
    space.run(["ip", "-6", "address", "add", f"{address}/{prefix_length}", "dev", device, "nodad", "noprefixroute"])
    space.run(["ip", "-6", "route", "replace", f"{network}/{prefix_length}", "dev", device, "proto", "kernel", *CONGESTION])
    space.run(["ip", "-6", "route", "replace", "local", address, "dev", device, "table", "local", "proto", "kernel", *CONGESTION])
