"""poll, select and epoll: level, edge, one-shot, mixed with kernel descriptors."""

import ctypes
import os
import select
import socket
import struct
import threading
import time

from cases.ground import case, events, libc, listener, outcome, pair, polled, soon


def epoll_seen(e, wait=3.0):
    found = e.poll(wait)
    return [events(mask) for _, mask in sorted(found)]


@case
def epoll_level():
    with pair() as (near, far), select.epoll() as e:
        e.register(far, select.EPOLLIN)
        before = epoll_seen(e, 0)
        near.sendall(b"ab")
        first, second = epoll_seen(e), epoll_seen(e)
        far.recv(10)
        return [before, first, second, epoll_seen(e, 0)]


@case
def epoll_edge():
    with pair() as (near, far), select.epoll() as e:
        e.register(far, select.EPOLLIN | select.EPOLLET)
        near.sendall(b"ab")
        first, second = epoll_seen(e), epoll_seen(e, 0.1)
        near.sendall(b"cd")
        third = epoll_seen(e)
        return [first, second, third, far.recv(10).decode()]


@case
def epoll_edge_and_option_calls():
    """The answer to an option call is no edge: who asks at each event is not told for ever."""
    with pair() as (near, far), select.epoll() as e:
        e.register(far, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        near.sendall(b"a")
        soon(lambda: "POLLIN" in polled(far))
        seen = [epoll_seen(e)]
        for ask in (lambda: far.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104),
                    lambda: far.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)):
            for _ in range(3):
                ask()
                seen.append(epoll_seen(e, 0.02))
        return seen


@case
def epoll_edge_of_a_shutdown():
    with pair() as (near, _), select.epoll() as e:
        e.register(near, select.EPOLLOUT | select.EPOLLET)
        first = epoll_seen(e)
        near.shutdown(socket.SHUT_WR)
        return [first, epoll_seen(e)]


@case
def epoll_oneshot():
    with pair() as (near, far), select.epoll() as e:
        e.register(far, select.EPOLLIN | select.EPOLLONESHOT)
        near.sendall(b"a")
        first = epoll_seen(e)
        near.sendall(b"b")
        second = epoll_seen(e, 0.1)
        e.modify(far, select.EPOLLIN | select.EPOLLONESHOT)
        return [first, second, epoll_seen(e)]


@case
def epoll_errors():
    with pair() as (near, _), select.epoll() as e:
        e.register(near, select.EPOLLIN)
        again = outcome(e.register, near, select.EPOLLIN)
        e.unregister(near)
        return [again, outcome(e.unregister, near), outcome(e.modify, near, select.EPOLLIN)]


@case
def epoll_arguments_that_are_none():
    exclusive = select.EPOLLIN | select.EPOLLEXCLUSIVE
    with pair() as (near, _), select.epoll() as e:
        seen = [outcome(e.register, near, exclusive | other) for other in (select.EPOLLONESHOT, select.EPOLLRDHUP)]
        seen.append(outcome(e.register, near, exclusive))
        room = ctypes.create_string_buffer(12)
        for time_that_is_none in ((0, 2 * 10**9), (-1, 0)):
            seen.append(libc("epoll_pwait2", e.fileno(), room, 1, struct.pack("ll", *time_that_is_none), None, 8))
        return seen


@case
def epoll_rdhup_and_hup():
    with pair() as (near, far), select.epoll() as e:
        e.register(far, select.EPOLLIN | select.EPOLLRDHUP)
        near.shutdown(socket.SHUT_WR)
        first = epoll_seen(e)
        far.shutdown(socket.SHUT_WR)
        soon(lambda: "POLLHUP" in epoll_seen(e, 0)[0])
        return [first, epoll_seen(e)]


@case
def epoll_closed_descriptor_leaves():
    with pair() as (near, far), select.epoll() as e:
        e.register(far, select.EPOLLIN)
        near.sendall(b"x")
        first = epoll_seen(e)
        far.close()
        return [first, epoll_seen(e, 0.05)]


@case
def epoll_mixed_with_kernel_descriptors():
    with pair() as (near, far), select.epoll() as e:
        reading, writing = os.pipe()
        counter = os.eventfd(0)
        a, b = socket.socketpair()
        for descriptor in (reading, counter, a, far):
            e.register(descriptor, select.EPOLLIN)
        seen = []
        for act in (lambda: os.write(writing, b"x"), lambda: os.eventfd_write(counter, 1), lambda: b.send(b"x"),
                    lambda: near.sendall(b"x")):
            act()
            soon(lambda: len(e.poll(0)) == len(seen) + 1)
            seen.append(len(e.poll(3)))
        for descriptor in (reading, writing, counter):
            os.close(descriptor)
        a.close()
        b.close()
        return seen


@case
def epoll_wakes_a_waiter_in_another_thread():
    with pair() as (near, far), select.epoll() as e:
        seen = []
        waiter = threading.Thread(target=lambda: seen.extend(epoll_seen(e, 5)))
        waiter.start()
        time.sleep(0.05)
        e.register(far, select.EPOLLIN)
        near.sendall(b"x")
        waiter.join()
        return seen


@case
def epoll_of_an_epoll():
    with pair() as (near, far), select.epoll() as inner, select.epoll() as outer:
        outer.register(inner, select.EPOLLIN)
        inner.register(far, select.EPOLLIN)
        before = epoll_seen(outer, 0)
        near.sendall(b"x")
        first = epoll_seen(outer)
        far.recv(10)
        near.sendall(b"y")
        soon(lambda: "POLLIN" in polled(far))
        return [before, first, epoll_seen(outer, 0), epoll_seen(inner, 0)]


@case
def epoll_that_was_polled_and_lost_its_socket():
    with pair() as (near, far), select.epoll() as e:
        e.register(far, select.EPOLLIN)
        near.sendall(b"x")
        first = soon(lambda: "POLLIN" in polled(e))
        far.close()
        return [first, epoll_seen(e, 0), epoll_seen(e, 0.05)]


@case
def epoll_listener():
    with listener() as door, select.epoll() as e:
        e.register(door, select.EPOLLIN)
        before = epoll_seen(e, 0)
        with socket.create_connection(door.getsockname()[:2], 3):
            first = epoll_seen(e)
            door.accept()[0].close()
        return [before, first, epoll_seen(e, 0)]


@case
def select_of_both_kinds():
    with pair() as (near, far):
        reading, writing = os.pipe()
        r, w, x = select.select([far, reading], [near], [], 0)
        before = [len(r), len(w), len(x)]
        os.write(writing, b"x")
        near.sendall(b"x")
        soon(lambda: "POLLIN" in polled(far))
        r, w, x = select.select([far, reading], [near], [], 3)
        os.close(reading)
        os.close(writing)
        return [before, len(r), len(w), len(x)]


class PollFd(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]


@case
def poll_of_no_descriptor():
    with pair() as (near, far):
        near.sendall(b"x")
        soon(lambda: "POLLIN" in polled(far))
        asked = (PollFd * 3)((-1, select.POLLIN, 9), (far.fileno(), select.POLLIN, 9), (-5, 0, 9))
        ready = libc("poll", asked, 3, 100)
        bad = struct.pack("ll", 0, -1)
        return [ready, [each.revents for each in asked], libc("ppoll", asked, 3, bad, None)]


@case
def poll_timeout():
    with pair() as (near, _):
        start = time.monotonic()
        return [polled(near, select.POLLIN, 100), 0.05 < time.monotonic() - start < 2]
