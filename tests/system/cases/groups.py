"""Groups: membership, sources, and what comes back to the sender's own host."""

import socket
import struct

from cases.ground import FAMILY, HERE, case, nothing_now, outcome, tcp, udp

SIX = FAMILY == socket.AF_INET6
LEVEL = socket.IPPROTO_IPV6 if SIX else socket.IPPROTO_IP
GROUP = "ff15::77" if SIX else "239.9.8.7"
OTHER = "ff15::78" if SIX else "239.9.8.8"
# Of <linux/in.h> and <linux/in6.h>, where the socket module has no names.
MULTICAST_ALL = 29 if SIX else 49
MULTICAST_IF, MULTICAST_LOOP, MULTICAST_TTL = (17, 19, 18) if SIX else (32, 34, 33)
JOIN, LEAVE = (20, 21) if SIX else (35, 36)
MCAST_JOIN, MCAST_BLOCK, MCAST_UNBLOCK, MCAST_LEAVE, MCAST_JOIN_SOURCE, MCAST_LEAVE_SOURCE = 42, 43, 44, 45, 46, 47


def packed(address):
    return socket.inet_pton(FAMILY, address)


def change(s, name, group=GROUP):
    """IP_ADD_MEMBERSHIP and its like."""
    return outcome(s.setsockopt, LEVEL, name, packed(group) + (struct.pack("I", 0) if SIX else packed(HERE)))


def storage(address):
    name = struct.pack("HHI", FAMILY, 0, 0) + packed(address) if SIX else struct.pack("HH", FAMILY, 0) + packed(address)
    return name.ljust(128, b"\0")


def request(s, name, *addresses):
    """The options of RFC 3678, on the interface that the route has."""
    index = s.index if hasattr(s, "index") else 0
    return outcome(s.setsockopt, LEVEL, name, struct.pack("II", index, 0) + b"".join(storage(a) for a in addresses))


def send_by(s):
    if not SIX:
        s.setsockopt(LEVEL, MULTICAST_IF, packed(HERE))


def receiver():
    s = socket.socket(FAMILY, socket.SOCK_DGRAM)
    s.settimeout(3)
    s.bind(("::" if SIX else "0.0.0.0", 0))
    return s


@case
def group_membership_errors():
    with receiver() as s, tcp() as stream:
        return [change(s, LEAVE), change(s, JOIN), change(s, JOIN), change(s, LEAVE), change(s, LEAVE), change(s, JOIN, HERE),
                outcome(s.setsockopt, LEVEL, JOIN, b"\0\0"), change(stream, JOIN),
                None if SIX else outcome(s.setsockopt, LEVEL, JOIN, packed(GROUP) + packed("192.0.2.55"))]


@case
def group_comes_back():
    with receiver() as s, udp() as sender:
        send_by(sender)
        to = (GROUP, s.getsockname()[1])
        joined = change(s, JOIN)
        sender.sendto(b"one", to)
        first = s.recvfrom(100)
        sender.setsockopt(LEVEL, MULTICAST_LOOP, 0)
        sender.sendto(b"two", to)
        sender.setsockopt(LEVEL, MULTICAST_LOOP, 1)
        sender.sendto(b"three", to)
        second = s.recv(100)
        s.setsockopt(LEVEL, MULTICAST_ALL, 0)
        left = change(s, LEAVE)
        sender.sendto(b"four", to)
        return [joined, first[0].decode(), first[1][0] == HERE, second.decode(), left, nothing_now(s)]


@case
def group_reaches_every_member():
    with receiver() as one, socket.socket(FAMILY, socket.SOCK_DGRAM) as two, udp() as sender:
        one.close()
        with socket.socket(FAMILY, socket.SOCK_DGRAM) as first:
            for s in (first, two):
                s.settimeout(3)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            first.bind(("::" if SIX else "0.0.0.0", 0))
            two.bind(first.getsockname()[:2])
            joined = [change(first, JOIN), change(two, JOIN)]
            send_by(sender)
            sender.sendto(b"all", (GROUP, first.getsockname()[1]))
            return [joined, first.recv(10).decode(), two.recv(10).decode()]


@case
def group_as_bound_address():
    with socket.socket(FAMILY, socket.SOCK_DGRAM) as s, udp() as sender:
        s.settimeout(3)
        bound = outcome(s.bind, (GROUP, 0))
        joined = change(s, JOIN)
        send_by(sender)
        sender.sendto(b"x", (GROUP, s.getsockname()[1]))
        sender.sendto(b"not this", (HERE, s.getsockname()[1]))
        return [bound, joined, s.recv(10).decode(), nothing_now(s)]


@case
def group_options():
    with udp() as s:
        seen = []
        for option in (MULTICAST_ALL, MULTICAST_LOOP, MULTICAST_TTL):
            before = s.getsockopt(LEVEL, option)
            seen.append([before, outcome(s.setsockopt, LEVEL, option, 0), s.getsockopt(LEVEL, option)])
        seen.append(outcome(s.setsockopt, LEVEL, MULTICAST_TTL, 256))
        seen.append(outcome(s.setsockopt, LEVEL, MULTICAST_IF, struct.pack("i", 9999) if SIX else packed("192.0.2.55")))
        return seen


@case
def group_sources():
    stranger = "fd00:77::1" if SIX else "192.0.2.77"
    with receiver() as s, udp() as sender:
        send_by(sender)
        s.setsockopt(LEVEL, MULTICAST_ALL, 0)
        to = (GROUP, s.getsockname()[1])
        if SIX:
            ask = lambda name, source: request(s, name, GROUP, source)  # noqa: E731
        else:
            names = {MCAST_JOIN_SOURCE: 39, MCAST_LEAVE_SOURCE: 40, MCAST_BLOCK: 38, MCAST_UNBLOCK: 37}
            ask = lambda name, source: outcome(  # noqa: E731
                s.setsockopt, LEVEL, names[name], packed(GROUP) + packed(HERE) + packed(source))
        seen = [ask(MCAST_BLOCK, stranger), ask(MCAST_JOIN_SOURCE, stranger), ask(MCAST_JOIN_SOURCE, stranger)]
        sender.sendto(b"not wanted", to)
        seen += [ask(MCAST_JOIN_SOURCE, HERE)]
        sender.sendto(b"wanted", to)
        seen += [s.recv(100).decode(), ask(MCAST_LEAVE_SOURCE, stranger), ask(MCAST_LEAVE_SOURCE, stranger),
                 ask(MCAST_LEAVE_SOURCE, HERE), ask(MCAST_LEAVE_SOURCE, HERE), change(s, LEAVE)]
        seen += [change(s, JOIN), ask(MCAST_BLOCK, HERE), ask(MCAST_BLOCK, HERE)]
        sender.sendto(b"refused", to)
        seen += [ask(MCAST_UNBLOCK, HERE), ask(MCAST_UNBLOCK, HERE)]
        sender.sendto(b"taken", to)
        return [*seen, s.recv(100).decode(), nothing_now(s)]


@case
def group_protocol_independent():
    with receiver() as s:
        if SIX:
            return [request(s, MCAST_JOIN, GROUP), request(s, MCAST_JOIN, GROUP), change(s, LEAVE), request(s, MCAST_LEAVE, GROUP),
                    outcome(s.setsockopt, LEVEL, MCAST_JOIN, b"short"), request(s, MCAST_JOIN, HERE)]
        return [outcome(s.setsockopt, LEVEL, MCAST_JOIN, b"short"), request(s, MCAST_JOIN, HERE)]
