"""UDP."""

import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import threading
import time

from cases.ground import FAMILY, HERE, case, libc, nothing_now, outcome, polled, soon, tcp, udp

# Of <netinet/udp.h>, <linux/in.h> and <linux/in6.h>, where the socket module has no names.
UDP_CORK, UDP_SEGMENT, UDP_GRO = 1, 103, 104
SIX = FAMILY == socket.AF_INET6
LEVEL = socket.IPPROTO_IPV6 if SIX else socket.IPPROTO_IP
RECVERR = 25 if SIX else 11
RECVPKTINFO, PKTINFO = (49, 50) if SIX else (8, 8)
RECVTOS, TOS = (66, 67) if SIX else (13, 1)
RECVTTL, TTL = (51, 52) if SIX else (12, 2)


@case
def udp_arguments_that_are_none():
    with udp() as a, udp() as b:
        byte = ctypes.create_string_buffer(1)
        batch = ctypes.create_string_buffer(64)  # a message of no bytes
        seen = [outcome(fcntl.ioctl, a.fileno(), 0x8905, b"\0" * 4)]  # SIOCATMARK
        for _ in range(2):
            b.sendto(b"x", a.getsockname())
        soon(lambda: "POLLIN" in polled(a))
        for time_that_is_none in ((0, 2 * 10**9), (-1, 0)):
            seen.append(libc("recvmmsg", a.fileno(), batch, 1, socket.MSG_DONTWAIT, struct.pack("ll", *time_that_is_none)))
        seen.append(a.setsockopt(socket.SOL_SOCKET, 25, b""))  # SO_BINDTODEVICE: to none
        length = ctypes.byref(ctypes.c_int(-1))
        return [*seen, libc("recvfrom", a.fileno(), byte, 1, 0, ctypes.create_string_buffer(32), length)]


@case
def udp_echo():
    with udp() as a, udp() as b:
        a.sendto(b"hello", b.getsockname())
        data, source = b.recvfrom(100)
        b.sendto(data + b"!", source)
        back, origin = a.recvfrom(100)
        return [back.decode(), source == a.getsockname(), origin == b.getsockname()]


@case
def read_of_nothing_takes_nothing():
    with udp() as a, udp() as b:
        at_once = os.read(b.fileno(), 0).decode()  # though there is nothing
        a.sendto(b"x", b.getsockname())
        soon(lambda: "POLLIN" in polled(b))
        return [at_once, os.read(b.fileno(), 0).decode(), os.readv(b.fileno(), [bytearray(0), bytearray(0)]), b.recv(10).decode()]


@case
def control_message_without_padding():
    with udp() as a, udp() as b:
        b.setsockopt(LEVEL, RECVTTL, 1)
        seen = []
        for room in (socket.CMSG_LEN(4), socket.CMSG_LEN(2), 8):
            a.sendto(b"x", b.getsockname())
            _, control, flags, _ = b.recvmsg(10, room)
            seen.append([[(kind, value.hex()) for _, kind, value in control], bool(flags & socket.MSG_CTRUNC)])
        return seen


@case
def udp_connected():
    with udp() as a, udp() as b, udp() as stranger:
        a.connect(b.getsockname())
        b.connect(a.getsockname())
        stranger.sendto(b"not for you", b.getsockname())
        a.send(b"x")
        return [b.recv(100).decode(), nothing_now(b), a.getpeername() == b.getsockname()]


@case
def udp_unconnected_send():
    with udp() as a:
        return [outcome(a.send, b"x"), outcome(a.getpeername)]


@case
def udp_port_unreachable():
    with udp() as gone:
        name = gone.getsockname()
    with udp() as a:
        a.connect(name)
        first = outcome(a.send, b"x")
        soon(lambda: "POLLERR" in polled(a))
        return [first, outcome(a.recv, 1), nothing_now(a)]


@case
def udp_refused_at_once():
    if ":" in HERE:
        return "IPv6 has no broadcast"
    everyone = (HERE.rsplit(".", 1)[0] + ".255", 7)
    with udp(bound=False) as s, udp() as t:
        refused = [outcome(x.sendto, b"x", everyone) for x in (s, s, t, t)]
        s.sendto(b"y", t.getsockname()[:2])
        return [refused, t.recv(9).decode(), s.getsockname()[1] != 0]


@case
def udp_disconnect():
    with udp() as a, udp() as b:
        a.connect(b.getsockname())
        # AF_UNSPEC through the raw call is not reachable from here: connecting elsewhere must replace the peer.
        with udp() as c:
            a.connect(c.getsockname())
            a.send(b"x")
            return [c.recv(10).decode(), nothing_now(b)]


@case
def udp_truncation():
    with udp() as a, udp() as b:
        a.sendto(b"abcdef", b.getsockname())
        a.sendto(b"gh", b.getsockname())
        data, _, flags, _ = b.recvmsg(3)
        return [data.decode(), flags & socket.MSG_TRUNC == socket.MSG_TRUNC, b.recv(10).decode()]


@case
def udp_empty_and_large():
    with udp() as a, udp() as b:
        a.sendto(b"", b.getsockname())
        empty = b.recv(10)
        data = os.urandom(20000)
        a.sendto(data, b.getsockname())
        return [empty == b"", b.recv(65536) == data, outcome(a.sendto, b"x" * 65508, b.getsockname())]


@case
def udp_bind_in_use():
    with udp() as a, socket.socket(FAMILY, socket.SOCK_DGRAM) as b:
        return outcome(b.bind, a.getsockname())


@case
def udp_poll():
    with udp() as a, udp() as b:
        before = polled(b)
        a.sendto(b"x", b.getsockname())
        soon(lambda: "POLLIN" in polled(b))
        return [before, polled(b)]


@case
def udp_recvmsg_addresses_and_peek():
    with udp() as a, udp() as b:
        a.sendto(b"peeked", b.getsockname())
        peeked = b.recvfrom(100, socket.MSG_PEEK)
        taken = b.recvfrom(100)
        return [peeked == taken, peeked[1] == a.getsockname()]


@case
def udp_option_before_the_first_send():
    with socket.socket(FAMILY, socket.SOCK_DGRAM) as a, udp() as b:
        a.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sent = outcome(a.sendto, b"x", b.getsockname())
        return [sent, b.recv(10).decode(), a.getsockname()[1] != 0]


@case
def udp_cork():
    with udp() as a, udp() as b:
        to = b.getsockname()

        def cork(on):
            return [outcome(a.setsockopt, socket.IPPROTO_UDP, UDP_CORK, on), a.getsockopt(socket.IPPROTO_UDP, UDP_CORK)]

        seen = [cork(1), a.sendto(b"one ", to), a.sendto(b"two ", (HERE, 9)), outcome(a.send, b"three"), nothing_now(b)]
        seen += [cork(0), b.recv(100).decode(), cork(0)]
        seen += [a.sendto(b"more ", socket.MSG_MORE, to), nothing_now(b), a.sendto(b"end", to), b.recv(100).decode()]
        seen += [cork(1), a.sendto(b"x" * 40000, to), outcome(a.sendto, b"y" * 40000, to), cork(0), nothing_now(b)]
        seen += [a.sendto(b"", socket.MSG_MORE, to), outcome(a.send, b""), b.recv(100).decode()]
        return [*seen, outcome(a.setsockopt, socket.IPPROTO_UDP, UDP_CORK, b"\1")]


@case
def udp_segment():
    with udp() as a, udp() as b:
        before = a.getsockopt(socket.IPPROTO_UDP, UDP_SEGMENT)
        a.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        data = os.urandom(3500)
        a.sendto(data, b.getsockname())
        parts = [b.recv(65536) for _ in range(4)]
        return [before, a.getsockopt(socket.IPPROTO_UDP, UDP_SEGMENT), [len(p) for p in parts], b"".join(parts) == data,
                outcome(a.setsockopt, socket.IPPROTO_UDP, UDP_SEGMENT, -1),
                outcome(a.setsockopt, socket.IPPROTO_UDP, UDP_SEGMENT, 65536)]


@case
def udp_segment_of_one_send():
    with udp() as a, udp() as b:
        cut = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", 700))]
        sent = [outcome(a.sendmsg, [b"x" * 1500], cut, 0, b.getsockname()), outcome(a.sendto, b"y" * 1500, b.getsockname())]
        sizes = [len(b.recv(65536)) for _ in range(4)]
        wrong = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("I", 700))]
        many = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", 1))]
        return [sent, sizes, outcome(a.sendmsg, [b"x" * 1500], wrong, 0, b.getsockname()),
                outcome(a.sendmsg, [b"x" * 1500], many, 0, b.getsockname())]


@case
def udp_gro():
    """Segments of one send come back together, with their size."""
    with udp() as a, udp() as b:
        before = b.getsockopt(socket.IPPROTO_UDP, UDP_GRO)
        b.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        a.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        data = os.urandom(7300)
        for _ in range(300):  # a reader at work while they come in
            a.sendto(data, b.getsockname())
            got, messages, flags, name = b.recvmsg(65536, 200)
            if got != data:
                return ["in parts", len(got)]
        seen = [(level, kind, struct.unpack("i", value)[0]) for level, kind, value in messages]
        a.sendto(b"alone", b.getsockname())
        alone, none, _, _ = b.recvmsg(65536, 200)
        return [before, b.getsockopt(socket.IPPROTO_UDP, UDP_GRO), got == data, seen, flags, name == a.getsockname(),
                alone.decode(), none]


@case
def udp_class_and_hops_both_ways():
    with udp() as a, udp() as b:
        for option in (RECVTOS, RECVTTL):
            b.setsockopt(LEVEL, option, 1)
        number = struct.Struct("i")
        seen = []
        for tos, ttl in ((0x28, 9), (0, 200)):
            a.setsockopt(LEVEL, TOS, 0x10)
            ask = [(LEVEL, TOS, number.pack(tos)), (LEVEL, TTL, number.pack(ttl))]
            a.sendmsg([b"x"], ask, 0, b.getsockname())
            _, messages, _, _ = b.recvmsg(10, 200)
            seen.append(sorted((kind, len(value), value[0]) for _, kind, value in messages))
        a.sendto(b"x", b.getsockname())
        _, messages, _, _ = b.recvmsg(10, 200)
        seen.append(sorted((kind, len(value), value[0]) for _, kind, value in messages))
        refused = [outcome(a.sendmsg, [b"x"], [(LEVEL, kind, number.pack(value))], 0, b.getsockname())
                   for kind, value in ((TOS, 256), (TTL, 256), (TTL, -2), (TOS, -2))]
        return [seen, refused]


def pktinfo(address):
    packed = socket.inet_pton(FAMILY, address)
    return packed + bytes(4) if SIX else bytes(4) + packed + bytes(4)


@case
def udp_pktinfo_chooses_the_source():
    with socket.socket(FAMILY, socket.SOCK_DGRAM) as a, udp() as b:
        a.bind(("::" if SIX else "0.0.0.0", 0))
        b.setsockopt(LEVEL, RECVPKTINFO, 1)
        sent = outcome(a.sendmsg, [b"x"], [(LEVEL, PKTINFO, pktinfo(HERE))], 0, b.getsockname())
        _, messages, _, name = b.recvmsg(10, 200)
        local = [HERE.encode() and socket.inet_pton(FAMILY, HERE) in value for _, kind, value in messages if kind == PKTINFO]
        short = outcome(a.sendmsg, [b"x"], [(LEVEL, PKTINFO, b"\0" * 4)], 0, b.getsockname())
        return [sent, name[0] == HERE, local, short]


@case
def udp_sticky_pktinfo():
    with udp() as a, socket.socket(FAMILY, socket.SOCK_DGRAM) as b:
        if not SIX:
            return outcome(b.setsockopt, socket.IPPROTO_IPV6, 50, bytes(20))

        def stick(address, index=0):
            return outcome(b.setsockopt, LEVEL, PKTINFO, socket.inet_pton(FAMILY, address) + struct.pack("I", index))

        to = a.getsockname()
        seen = [stick(HERE), b.sendto(b"x", to), a.recvfrom(10)[1][0] == HERE, outcome(b.getsockopt, LEVEL, PKTINFO, 20)]
        seen += [stick("::", 999), stick("::"), outcome(b.sendto, b"y", to)]
        seen += [a.recv(10).decode(), outcome(b.setsockopt, LEVEL, PKTINFO, bytes(16)), outcome(b.setsockopt, LEVEL, PKTINFO, 1)]
        with tcp() as stream:
            return [*seen, outcome(stream.setsockopt, LEVEL, PKTINFO, bytes(20))]


def error_of(messages):
    """Of sock_extended_err what does not differ: errno, origin, type, code; and who told."""
    for level, kind, value in messages:
        if kind == RECVERR:
            number, origin, what, code, _, info, _ = struct.unpack_from("IBBBBII", value)
            at = 16 + (8 if SIX else 4)
            told = socket.inet_ntop(FAMILY, value[at:at + (16 if SIX else 4)])
            return [level, number, origin, what, code, info, told == HERE, len(value)]
    return None


@case
def udp_error_queue():
    with udp() as gone:
        name = gone.getsockname()
    with udp() as a:
        a.setsockopt(LEVEL, RECVERR, 1)
        empty = outcome(a.recvmsg, 10, 200, socket.MSG_ERRQUEUE)
        a.sendto(b"into the void", name)
        ready = soon(lambda: "POLLERR" in polled(a))
        pending = outcome(a.recv, 1)
        still = polled(a)
        data, messages, flags, to = a.recvmsg(100, 200, socket.MSG_ERRQUEUE)
        return [a.getsockopt(LEVEL, RECVERR), empty, ready, pending, still, data.decode(), error_of(messages),
                flags == socket.MSG_ERRQUEUE, to[:2] == name[:2], polled(a), nothing_now(a),
                outcome(a.recvmsg, 10, 200, socket.MSG_ERRQUEUE)]


@case
def udp_error_queue_of_two():
    """What SO_ERROR says goes on with the queue."""
    with udp() as gone:
        name = gone.getsockname()
    with udp() as a:
        a.setsockopt(LEVEL, RECVERR, 1)
        for data in (b"one", b"two"):
            a.sendto(data, name)
            soon(lambda: a.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0)
        first = a.recvmsg(100, 200, socket.MSG_ERRQUEUE)[0]
        between = a.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        short, _, flags, _ = a.recvmsg(2, 200, socket.MSG_ERRQUEUE)
        return [first.decode(), between, short.decode(), flags & socket.MSG_TRUNC == socket.MSG_TRUNC,
                a.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), outcome(a.recvmsg, 1, 200, socket.MSG_ERRQUEUE)]


def in_thread(call, *arguments):
    """The thread, which has had time to begin, and where its outcome will be."""
    got = []
    thread = threading.Thread(target=lambda: got.append(outcome(call, *arguments)), daemon=True)
    thread.start()
    time.sleep(0.2)
    return thread, got


@case
def udp_shutdown_without_a_peer():
    seen = []
    with udp() as target:
        for how in (socket.SHUT_RD, socket.SHUT_RDWR):
            with udp() as s:
                s.settimeout(None)
                reader, got = in_thread(s.recv, 10)
                seen.append(outcome(s.shutdown, how))
                reader.join(2)
                seen += [got, polled(s), outcome(s.sendto, b"x", target.getsockname())]
        with udp() as s:
            seen += [outcome(s.shutdown, socket.SHUT_WR), polled(s), outcome(s.sendto, b"x", target.getsockname())]
    return seen


@case
def udp_larger_than_the_buffers():
    seen = []
    for option, size, length in ((socket.SO_RCVBUF, 32768, 65507), (socket.SO_RCVBUF, 1, 20000), (socket.SO_SNDBUF, 4096, 40000),
                                 (socket.SO_SNDBUF, 16384, 40000)):
        with udp(bound=False) as a, udp(bound=False) as b:
            for s in (a, b):
                s.setsockopt(socket.SOL_SOCKET, option, size)
                s.bind((HERE, 0))
            for _ in range(2):
                seen += [outcome(a.sendto, b"x" * length, b.getsockname()), len(b.recv(65536))]
    return seen


@case
def udp_connect_to_port_zero():
    """A way to learn one's own address."""
    with udp(bound=False) as s, udp() as t:
        seen = [outcome(s.connect, (HERE, 0)), s.getsockname()[0] == HERE, s.getsockname()[1] != 0, outcome(s.getpeername)]
        seen += [outcome(s.sendto, b"x", t.getsockname()), t.recvfrom(10)[1] == s.getsockname()]
        s.connect(t.getsockname())
        return [*seen, s.getpeername() == t.getsockname(), outcome(s.send, b"y"), t.recv(10).decode()]


@case
def udp_writev_of_nothing():
    """Unlike write of nothing, which sends an empty datagram."""
    with udp() as a, udp() as b:
        a.connect(b.getsockname())
        seen = [os.writev(a.fileno(), [b"", b""]), nothing_now(b)]
        return [*seen, os.write(a.fileno(), b""), soon(lambda: "POLLIN" in polled(b)), b.recv(10).decode(), nothing_now(b)]


def sendto_unspecified(s, to):
    """sendto with a name of the family AF_UNSPEC, which Python's does not write."""
    libc = ctypes.CDLL(None, use_errno=True)
    packed = struct.pack("HH", socket.AF_UNSPEC, socket.htons(to[1]))
    packed += bytes(4) + socket.inet_pton(FAMILY, to[0]) + bytes(4) if SIX else socket.inet_pton(FAMILY, to[0]) + bytes(8)
    sent = libc.sendto(s.fileno(), b"x", 1, 0, packed, len(packed))
    return sent if sent >= 0 else errno.errorcode[ctypes.get_errno()]


@case
def udp_sendto_of_no_family():
    with udp() as bound, udp() as b:
        seen = [sendto_unspecified(bound, b.getsockname()), nothing_now(b) if SIX else b.recv(10).decode()]
        bound.connect(b.getsockname())
        b.settimeout(3)
        return [*seen, sendto_unspecified(bound, b.getsockname()), b.recv(10).decode()]


@case
def udp_broadcast_heard_here():
    if SIX:
        return "IPv6 has no broadcast"
    with socket.socket(FAMILY, socket.SOCK_DGRAM) as everywhere, udp() as sender:
        everywhere.settimeout(2)
        everywhere.bind(("0.0.0.0", 0))
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        seen = []
        for everyone in (HERE.rsplit(".", 1)[0] + ".255", "255.255.255.255"):
            seen += [outcome(sender.sendto, everyone.encode(), (everyone, everywhere.getsockname()[1])), outcome(everywhere.recv, 100)]
        return [len(seen), seen[0] == len(HERE.rsplit(".", 1)[0]) + 4, HERE.rsplit(".", 1)[0] in seen[1], seen[2:]]


@case
def udp_bound_to_broadcast():
    if SIX:
        return "IPv6 has no broadcast"
    network = HERE.rsplit(".", 1)[0] + ".255"
    with udp(bound=False) as one, udp(bound=False) as link, udp() as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        one.bind((network, 0))
        link.bind(("255.255.255.255", 0))
        for to in (one, link):
            for everyone in (network, "255.255.255.255"):
                sender.sendto(everyone.encode().ljust(20), (everyone, to.getsockname()[1]))
        return [one.recv(100).decode().strip() == network, nothing_now(one), link.recv(100).decode().strip(), nothing_now(link)]


def ask_and_wait(wait):
    """A thread waits on a socket that the first send, by another thread, makes known to have to do with the network at HERE."""
    with udp() as server, socket.socket(FAMILY, socket.SOCK_DGRAM) as s:
        thread, got = in_thread(wait, s)
        s.sendto(b"question", server.getsockname())
        server.sendto(b"answer", server.recvfrom(100)[1])
        thread.join(2)
        return got


def wait_in_poll(s):
    return [polled(s, select.POLLIN, 1500), s.recv(10).decode()]


def wait_in_select(s):
    ready = select.select([s], [], [], 1.5)[0]
    return [len(ready), s.recv(10).decode() if ready else None]


def wait_in_poll_with_another(s):
    with udp() as other:
        p = select.poll()
        for each in (s, other):
            p.register(each, select.POLLIN)
        return [len(p.poll(1500)), s.recv(10).decode()]


def wait_in_epoll(s):
    with select.epoll() as e:
        e.register(s, select.EPOLLIN)
        return [len(e.poll(1.5)), s.recv(10).decode()]


@case
def udp_waits_while_another_thread_sends_first():
    return [ask_and_wait(wait) for wait in (lambda s: s.recv(10), lambda s: s.recvfrom(10)[0], lambda s: s.recvmsg(10)[0].decode(),
                                            lambda s: os.read(s.fileno(), 10), wait_in_poll, wait_in_select,
                                            wait_in_poll_with_another, wait_in_epoll)]
