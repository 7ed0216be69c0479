"""Groups: membership, sources, and what comes back to the sender's own host."""

import ctypes
import errno
import socket
import struct

from cases.ground import FAMILY, HERE, case, listener, nothing_now, outcome, tcp, udp

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
def group_without_its_link():
    """ipv6(7): the scope id says which."""
    with socket.socket(FAMILY, socket.SOCK_DGRAM) as s:
        return [outcome(s.bind, (group, 0)) for group in ("ff02::fb", "ff01::fb")] if SIX else None


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
def group_without_a_hop_comes_back():
    with receiver() as s, udp() as sender:
        send_by(sender)
        sender.setsockopt(LEVEL, MULTICAST_TTL, 0)
        joined = change(s, JOIN)
        sent = outcome(sender.sendto, b"inside", (GROUP, s.getsockname()[1]))
        return [joined, sent, s.recv(100).decode()]


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
        seen += [change(s, JOIN), ask(MCAST_JOIN_SOURCE, stranger), ask(MCAST_BLOCK, stranger), change(s, LEAVE)]
        seen += [change(s, JOIN), ask(MCAST_LEAVE_SOURCE, stranger), change(s, LEAVE)]
        seen += [change(s, JOIN), ask(MCAST_BLOCK, HERE), ask(MCAST_BLOCK, HERE)]
        sender.sendto(b"refused", to)
        seen += [ask(MCAST_UNBLOCK, HERE), ask(MCAST_UNBLOCK, HERE)]
        sender.sendto(b"taken", to)
        return [*seen, s.recv(100).decode(), nothing_now(s)]


# struct ip_msfilter and struct group_filter.
IP_MSFILTER, MCAST_MSFILTER, EXCLUDE, INCLUDE = 41, 48, 0, 1


def own_list(mode, sources, group=GROUP, count=None):
    count = len(sources) if count is None else count
    return packed(group) + packed(HERE) + struct.pack("II", mode, count) + b"".join(map(packed, sources))


def independent_list(mode, sources, group=GROUP, count=None, index=0):
    count = len(sources) if count is None else count
    return struct.pack("II", index, 0) + storage(group) + struct.pack("II", mode, count) + b"".join(map(storage, sources))


def getsockopt_with(s, name, ask):
    """getsockopt that reads its argument, which Python's does not hand over."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(ask, len(ask))
    size = ctypes.c_uint32(len(ask))
    if libc.getsockopt(s.fileno(), LEVEL, name, buffer, ctypes.byref(size)) != 0:
        return errno.errorcode[ctypes.get_errno()]
    answer = buffer.raw[:size.value]
    head, width = (16, 4) if name == IP_MSFILTER else (144, 128)
    mode, count = struct.unpack_from("II", answer, head - 8)
    return [mode, count, size.value, sorted(answer[at:at + width].hex() for at in range(head, len(answer), width))]


def put_at(s, index):
    return outcome(s.setsockopt, LEVEL, MCAST_MSFILTER, independent_list(EXCLUDE, [], index=index))


@case
def group_source_list():
    strangers = [f"2001:db8::{n:x}" if SIX else f"192.0.2.{n}" for n in range(1, 80)]
    with receiver() as s, udp() as sender:
        send_by(sender)
        s.setsockopt(LEVEL, MULTICAST_ALL, 0)
        to = (GROUP, s.getsockname()[1])
        name, make = (MCAST_MSFILTER, independent_list) if SIX else (IP_MSFILTER, own_list)

        more = {}

        def put(*arguments, **count):
            return outcome(s.setsockopt, LEVEL, name, make(*arguments, **count, **more))

        seen = [put(EXCLUDE, []), put(INCLUDE, []), change(s, JOIN)]
        if SIX:  # here Linux insists on the number of the membership's interface, which differs between the two
            seen.append(put(EXCLUDE, []))
            more["index"] = next(n for n in range(1, 20000) if put_at(s, n) is None)
        seen.append(put(INCLUDE, strangers[:10]))
        sender.sendto(b"not wanted", to)
        seen += [put(INCLUDE, [*strangers[:9], HERE])]
        sender.sendto(b"wanted", to)
        seen += [s.recv(100).decode(), put(EXCLUDE, [HERE])]
        sender.sendto(b"refused", to)
        seen += [nothing_now(s), put(EXCLUDE, [])]
        sender.sendto(b"taken", to)
        s.settimeout(3)
        seen += [s.recv(100).decode(), put(2, []), put(EXCLUDE, [], HERE), put(EXCLUDE, strangers[:2], count=3),
                 put(EXCLUDE, strangers[:70]), put(EXCLUDE, [], OTHER), put(INCLUDE, [], OTHER),
                 outcome(s.setsockopt, LEVEL, name, b"short")]
        width = 128 if SIX else 4
        seen += [put(EXCLUDE, strangers[:20 if SIX else 3])]
        seen += [getsockopt_with(s, name, make(9, [], count=n, **more) + bytes(n * width)) for n in (0, 2, 40)]
        seen += [getsockopt_with(s, name, make(9, [], group, **more)) for group in (OTHER, HERE)]
        seen += [getsockopt_with(s, MCAST_MSFILTER, independent_list(9, [], OTHER)),
                 getsockopt_with(s, MCAST_MSFILTER, independent_list(9, [], HERE)),
                 getsockopt_with(s, MCAST_MSFILTER, b"short"), put(INCLUDE, []), change(s, LEAVE)]
    with listener() as stream:
        return [*seen, outcome(stream.setsockopt, LEVEL, name, make(EXCLUDE, [])),
                outcome(stream.setsockopt, LEVEL, name, make(INCLUDE, []))]


@case
def group_protocol_independent():
    with receiver() as s:
        if SIX:
            return [request(s, MCAST_JOIN, GROUP), request(s, MCAST_JOIN, GROUP), change(s, LEAVE), request(s, MCAST_LEAVE, GROUP),
                    outcome(s.setsockopt, LEVEL, MCAST_JOIN, b"short"), request(s, MCAST_JOIN, HERE)]
        return [outcome(s.setsockopt, LEVEL, MCAST_JOIN, b"short"), request(s, MCAST_JOIN, HERE)]
