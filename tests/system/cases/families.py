"""IPv4 and IPv6 in one socket: IPv4-mapped addresses, IPV6_V6ONLY, conflicts between the families, ancillary data."""

import contextlib
import socket

from cases.ground import FAMILY, HERE, case, outcome, udp

MAPPED = HERE if FAMILY == socket.AF_INET6 else "::ffff:" + HERE
OPTIONS = ("IPV6_UNICAST_HOPS", "IPV6_TCLASS", "IPV6_MULTICAST_HOPS", "IPV6_V6ONLY", "IPV6_RECVPKTINFO", "IPV6_RECVHOPLIMIT",
           "IPV6_RECVTCLASS")


def six(kind=socket.SOCK_STREAM, only=None):
    s = socket.socket(socket.AF_INET6, kind)
    if only is not None:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    s.settimeout(3)
    return s


def wildcard_pair(first, second, kind, only):
    """Two wildcards of the families on one port."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for family in (first, second):
            s = stack.enter_context(socket.socket(family, kind))
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            sockets.append(s)
        wildcard = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
        sockets[0].bind((wildcard[first], 0))
        return outcome(sockets[1].bind, (wildcard[second], sockets[0].getsockname()[1]))


@case
def six_wildcards_of_both_families():
    return [wildcard_pair(first, second, kind, only)
            for first, second in ((socket.AF_INET, socket.AF_INET6), (socket.AF_INET6, socket.AF_INET))
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) for only in (0, 1)]


@case
def six_dual_stack_accepts():
    with six(only=0) as door:
        door.bind(("::", 0))
        door.listen()
        with socket.create_connection((HERE, door.getsockname()[1]), 3) as near:
            far, name = door.accept()
            with far:
                far.sendall(b"both")
                return [near.recv(10).decode(), name[0] == MAPPED, far.getsockname()[0] == MAPPED, name == far.getpeername(),
                        far.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_INET6]


@case
def six_socket_connects_to_either():
    with socket.socket(FAMILY, socket.SOCK_STREAM) as door:
        door.bind((HERE, 0))
        door.listen()
        with six() as near:
            near.connect((MAPPED, door.getsockname()[1]))
            return [near.getpeername()[0] == MAPPED, near.getsockname()[0] == MAPPED, near.family == socket.AF_INET6]


@case
def six_only():
    with six(only=1) as s, six(socket.SOCK_DGRAM, only=1) as d:
        s.bind(("::", 0))
        return [outcome(s.setsockopt, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0), outcome(d.bind, ("::ffff:127.0.0.1", 0)),
                outcome(d.connect, ("::ffff:127.0.0.1", 9))]


@case
def six_link_local_needs_a_scope():
    with six() as s, six(socket.SOCK_DGRAM) as d:
        return [outcome(s.connect, ("fe80::1", 9)), outcome(s.bind, ("fe80::1", 0)), outcome(d.connect, ("fe80::1", 9))]


@case
def six_foreign_address():
    with six() as s:
        return outcome(s.bind, ("2001:db8::1", 0))


@case
def six_option_round_trips():
    seen = []
    with six(socket.SOCK_DGRAM) as s:
        for name in OPTIONS:
            option = getattr(socket, name)
            before = s.getsockopt(socket.IPPROTO_IPV6, option)
            changed = outcome(s.setsockopt, socket.IPPROTO_IPV6, option, 1)
            seen.append([name, before, changed, s.getsockopt(socket.IPPROTO_IPV6, option)])
        seen.append(outcome(s.setsockopt, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 256))
        seen.append(outcome(s.setsockopt, socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 256))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        seen.append(outcome(s.setsockopt, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1))
    return seen


@case
def six_ancillary_data():
    """What a dual-stack socket hears beside a datagram of HERE's family."""
    with six(socket.SOCK_DGRAM, only=0) as s, udp() as sender:
        for option in (socket.IPV6_RECVPKTINFO, socket.IPV6_RECVHOPLIMIT, socket.IPV6_RECVTCLASS):
            s.setsockopt(socket.IPPROTO_IPV6, option, 1)
        s.bind(("::", 0))
        sender.sendto(b"x", (HERE, s.getsockname()[1]))
        data, messages, _, name = s.recvmsg(10, 200)
        seen = {kind: value for level, kind, value in messages if level == socket.IPPROTO_IPV6}
        local = seen.get(socket.IPV6_PKTINFO, b"")[:16]
        hops = seen.get(socket.IPV6_HOPLIMIT)
        return [data.decode(), name[0] == MAPPED, local == socket.inet_pton(socket.AF_INET6, MAPPED),
                hops is not None and int.from_bytes(hops, "little"), sorted(seen)]


@case
def six_hears_of_ipv4_groups_those_it_joined():
    if FAMILY == socket.AF_INET6:
        return "about IPv4's groups"
    here, group = socket.inet_aton(HERE), "239.9.8.6"
    with six(socket.SOCK_DGRAM, only=0) as s, udp(bound=False) as member, udp() as sender:
        s.settimeout(3)
        s.bind(("::", 0))
        member.bind(("0.0.0.0", 0))
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + here)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
        seen = []
        for port in (s.getsockname()[1], member.getsockname()[1]):
            sender.sendto(b"x", (group, port))
        seen += [member.recv(10).decode(), outcome(s.recv, 10, socket.MSG_DONTWAIT)]
        seen.append(outcome(s.setsockopt, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + here))
        sender.sendto(b"y", (group, s.getsockname()[1]))
        return [*seen, s.recv(10).decode(), [outcome(s.setsockopt, level, option, value)
                                             for level, option in ((socket.IPPROTO_IP, 49), (socket.IPPROTO_IPV6, 29), (socket.IPPROTO_IPV6, 19))
                                             for value in (0, 1, 2, -1)]]


@case
def six_hop_limit_of_one_datagram():
    with six(socket.SOCK_DGRAM) as s, six(socket.SOCK_DGRAM) as sender:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        s.bind(("::", 0))
        hops = [(socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, (9).to_bytes(4, "little"))]
        sent = outcome(sender.sendmsg, [b"x"], hops, 0, (MAPPED, s.getsockname()[1]))
        _, messages, _, _ = s.recvmsg(10, 200)
        return [sent, [int.from_bytes(value, "little") for _, kind, value in messages if kind == socket.IPV6_HOPLIMIT]]


@case
def six_hop_limit_is_not_the_ttl():
    """What IPV6_UNICAST_HOPS and IP_TTL of one socket say, by a receiver of HERE's family."""
    level, receive, kind = (socket.IPPROTO_IPV6, 51, 52) if FAMILY == socket.AF_INET6 else (socket.IPPROTO_IP, 12, 2)
    with udp() as s, six(socket.SOCK_DGRAM) as sender:
        s.setsockopt(level, receive, 1)
        seen = [outcome(sender.setsockopt, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 9),
                sender.getsockopt(socket.IPPROTO_IP, socket.IP_TTL), outcome(sender.setsockopt, socket.IPPROTO_IP, socket.IP_TTL, 7),
                sender.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)]
        seen += [outcome(sender.setsockopt, socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 5),
                 sender.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL)]
        sender.sendto(b"x", (MAPPED, s.getsockname()[1]))
        _, messages, _, _ = s.recvmsg(10, 200)
        return seen + [int.from_bytes(value, "little") for _, number, value in messages if number == kind]
