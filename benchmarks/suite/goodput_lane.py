"""Lanes of the goodput grid: two namespaces each, whose TAPs bench-goodput joins by a simulated link. Every lane carries
one cell at a time."""

from netdtools.namespace import CONGESTION, Namespace, add_address
from netdtools.process import ToolError, run

from . import programs

PROGRAM = "bench-goodput"
SIDES = (("10.77.0.1", "02:00:00:00:77:0a"), ("10.77.0.2", "02:00:00:00:77:0b"))


def add_tap(space, device, address):
    space.run(["ip", "tuntap", "add", "dev", device, "mode", "tap", "vnet_hdr"])
    add_address(space, device, address)


class Lane:
    def __init__(self, name, cleanup):
        self.spaces = []
        cleanup.callback(self.down)
        for letter in "az":
            self.spaces.append(Namespace.create(f"{name}{letter}", self.spaces[0] if self.spaces else None))
        for space, (address, mac), (peer, peer_mac) in zip(self.spaces, SIDES, reversed(SIDES)):
            add_tap(space, "gp0", address)
            space.run(["ip", "link", "set", "gp0", "address", mac])
            space.run(["ip", "neigh", "replace", peer, "lladdr", peer_mac, "dev", "gp0", "nud", "permanent"])

    def add_hosts(self):
        """A TAP for a netd on each side, from and to which the kernels forward: gn0 and gf0."""
        for space, device, mine, other, (via, _) in zip(self.spaces, ("gn0", "gf0"), (1, 2), (2, 1), reversed(SIDES)):
            add_tap(space, device, f"10.78.{mine}.1")
            space.run(["ip", "route", "add", f"10.78.{other}.0/24", "via", via, "dev", "gp0", *CONGESTION])
            space.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])

    def measure(self, side, arguments, timeout):
        """The object that the program prints. What the kernel remembers of earlier connections is forgotten."""
        for space in self.spaces:
            space.run(["ip", "tcp_metrics", "flush", "all"])
        near, far = self.spaces
        return programs.one(PROGRAM, [side, "--near", near.path, "--far", far.path, *arguments], near.prefix, timeout)

    def down(self):
        for space in self.spaces:
            space.delete()


def lanes(count, tag, cleanup):
    """As many lanes; ToolError where namespaces or TAPs cannot be made."""
    made = []
    for number in range(count):
        made.append(Lane(f"gp-{tag}-{number}", cleanup))
    return made


def why_not_possible():
    """A reason why there are no lanes here, or None."""
    try:
        run(["ip", "-V"])
    except ToolError as error:
        return str(error)
    return None
