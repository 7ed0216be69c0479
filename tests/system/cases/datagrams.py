"""UDP."""

import os
import socket

from cases.ground import FAMILY, case, nothing_now, outcome, polled, soon, udp


@case
def udp_echo():
    with udp() as a, udp() as b:
        a.sendto(b"hello", b.getsockname())
        data, source = b.recvfrom(100)
        b.sendto(data + b"!", source)
        back, origin = a.recvfrom(100)
        return [back.decode(), source == a.getsockname(), origin == b.getsockname()]


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
