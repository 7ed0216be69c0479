"""Streams: data, ends, resets, flags of the transfer calls."""

import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import threading
import time

from cases.ground import (HERE, LIBC, case, connect_to_nothing, libc, listener, name_of_error, nothing_now, outcome, pair, polled,
                          receive_all, soon, tcp)


def unread(s):
    return struct.unpack("i", fcntl.ioctl(s.fileno(), termios.FIONREAD, b"\0" * 4))[0]


@case
def data_both_ways():
    data = os.urandom(1 << 20)
    with pair() as (near, far):
        def echo():
            far.sendall(receive_all(far))
            far.shutdown(socket.SHUT_WR)

        worker = threading.Thread(target=echo)
        worker.start()
        near.sendall(data)
        near.shutdown(socket.SHUT_WR)
        back = receive_all(near)
        worker.join()
        return back == data


@case
def half_close():
    with pair() as (near, far):
        near.sendall(b"last words")
        near.shutdown(socket.SHUT_WR)
        heard = receive_all(far)
        far.sendall(b"answer")
        return [heard.decode(), near.recv(100).decode(), outcome(near.send, b"x"), outcome(near.shutdown, socket.SHUT_WR)]


@case
def shutdown_read_gives_eof():
    with pair() as (near, far):
        near.shutdown(socket.SHUT_RD)
        return [outcome(near.recv, 10), polled(near)]


def nobody():
    """An address of the network at which nobody answers."""
    return HERE.rsplit(".", 1)[0] + ".253" if "." in HERE else HERE.rsplit(":", 1)[0] + ":fdfd"


@case
def shutdown_ends_a_connect():
    seen = []
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
        with listener() as door, tcp() as s:
            told = []
            waits = threading.Thread(target=lambda: told.append(outcome(s.connect, (nobody(), 80))))
            waits.start()
            time.sleep(0.3)
            seen.append(outcome(s.shutdown, how))
            waits.join(5)
            seen += [told, polled(s), outcome(s.connect, door.getsockname()[:2])]
            s.sendall(b"text")
            seen.append(door.accept()[0].recv(10).decode())
    return seen


@case
def shutdown_ends_a_connect_that_does_not_wait():
    with listener() as door, tcp() as s:
        s.setblocking(False)
        seen = [outcome(s.connect, (nobody(), 80)), outcome(s.shutdown, socket.SHUT_WR), polled(s)]
        seen += [outcome(s.connect, door.getsockname()[:2])]
        soon(lambda: polled(s) == "POLLOUT")
        return seen + [name_of_error(s), outcome(s.send, b"text"), door.accept()[0].recv(10).decode()]


@case
def connect_to_nothing_ends_a_connect():
    with tcp() as s:
        s.setblocking(False)
        seen = [outcome(s.connect, (nobody(), 80)), connect_to_nothing(s), polled(s), name_of_error(s), polled(s)]
        return seen + [s.getsockname()[0]]


@case
def poll_after_peer_closed():
    with pair() as (near, far):
        far.close()
        soon(lambda: "POLLIN" in polled(near))
        return [polled(near), outcome(near.recv, 1)]


@case
def poll_after_both_shut():
    with pair() as (near, far):
        near.shutdown(socket.SHUT_WR)
        far.shutdown(socket.SHUT_WR)
        soon(lambda: "POLLHUP" in polled(near))
        return polled(near)


@case
def write_to_closed_peer():
    with pair() as (near, far):
        far.close()
        soon(lambda: "POLLIN" in polled(near))  # the FIN: netd's close() does not wait for its being sent
        first = outcome(near.send, b"a")
        soon(lambda: "POLLERR" in polled(near) or "POLLHUP" in polled(near))
        return [first, outcome(near.send, b"b"), outcome(near.recv, 1)]


@case
def reset_behind_the_end():
    """As a server that keeps a connection alive and closes it while the next request is on its way."""
    seen = []
    for end_was_read in (False, True):
        with pair() as (near, far):
            far.sendall(b"answer")
            far.close()
            soon(lambda: "POLLRDHUP" in polled(near))
            if end_was_read:
                seen.append([near.recv(10).decode(), near.recv(10).decode()])
            near.send(b"question")
            soon(lambda: "POLLERR" in polled(near))
            seen.append([outcome(lambda: near.recv(10).decode()) for _ in range(2)])
            seen.append([polled(near), name_of_error(near), outcome(lambda: near.recv(10).decode())])
    return seen


@case
def reset_behind_an_end_of_ones_own():
    with pair() as (near, far):
        near.shutdown(socket.SHUT_RD)
        near.sendall(b"never read")
        soon(lambda: "POLLIN" in polled(far))
        far.close()
        soon(lambda: "POLLERR" in polled(near))
        return [outcome(lambda: near.recv(10).decode()) for _ in range(2)]


@case
def close_with_unread_data_resets():
    with pair() as (near, far):
        near.sendall(b"never read")
        soon(lambda: "POLLIN" in polled(far))
        far.close()
        soon(lambda: "POLLERR" in polled(near))
        return [polled(near), outcome(near.recv, 1), outcome(near.recv, 1)]


@case
def linger_zero_resets():
    with pair() as (near, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        soon(lambda: "POLLERR" in polled(near))
        return [errno.errorcode.get(near.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)), outcome(near.recv, 1)]


@case
def linger_negative_sends_all():
    with pair() as (near, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, -1))
        far.sendall(b"kept")
        far.close()
        soon(lambda: "POLLIN" in polled(near))
        return [outcome(near.recv, 10), outcome(near.recv, 1), near.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]


@case
def data_then_end_of_file_stays():
    with pair() as (near, far):
        far.sendall(b"data")
        far.shutdown(socket.SHUT_WR)
        soon(lambda: "POLLIN" in polled(near))
        return [near.recv(100).decode(), outcome(near.recv, 1), outcome(near.recv, 1)]


@case
def sigpipe():
    with pair() as (near, _):
        near.shutdown(socket.SHUT_WR)
        hits = []
        signal.signal(signal.SIGPIPE, lambda *_: hits.append(1))
        plain = outcome(near.send, b"x")
        count = len(hits)
        quiet = outcome(near.send, b"x", socket.MSG_NOSIGNAL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        return [plain, count, quiet, len(hits)]


@case
def message_peek():
    with pair() as (near, far):
        near.sendall(b"abcdef")
        soon(lambda: "POLLIN" in polled(far))
        return [far.recv(3, socket.MSG_PEEK).decode(), far.recv(10).decode()]


@case
def message_dontwait():
    with pair() as (near, far):
        return [nothing_now(near), outcome(near.send, b"x", socket.MSG_DONTWAIT)]


@case
def message_peek_gives_what_is_there():
    """Where it may not wait, or no longer: fewer bytes than MSG_WAITALL or SO_RCVLOWAT asks for."""
    with pair() as (near, far):
        near.sendall(b"abcdef")
        soon(lambda: unread(far) == 6)
        far.setblocking(True)
        all_of_it = socket.MSG_PEEK | socket.MSG_WAITALL
        seen = [outcome(lambda: far.recv(10, all_of_it | socket.MSG_DONTWAIT).decode())]
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50000))
        seen.append(outcome(lambda: far.recv(10, all_of_it).decode()))
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 8)
        seen.append(outcome(lambda: far.recv(10, socket.MSG_PEEK | socket.MSG_DONTWAIT).decode()))
        seen.append(far.recv(10, socket.MSG_DONTWAIT).decode())
        return [*seen, outcome(far.recv, 10, all_of_it | socket.MSG_DONTWAIT)]


@case
def message_waitall():
    with pair() as (near, far):
        def slowly():
            for part in (b"ab", b"cd", b"ef"):
                far.sendall(part)
                time.sleep(0.02)

        near.settimeout(None)
        worker = threading.Thread(target=slowly)
        worker.start()
        got = near.recv(6, socket.MSG_WAITALL).decode()
        worker.join()
        return got


@case
def urgent_byte():
    with pair() as (near, far):
        near.sendall(b"ab")
        near.send(b"!", socket.MSG_OOB)
        near.sendall(b"cd")
        ready = soon(lambda: "POLLPRI" in polled(far, select.POLLPRI))
        peeked = outcome(far.recv, 1, socket.MSG_OOB | socket.MSG_PEEK)
        urgent = outcome(far.recv, 1, socket.MSG_OOB)
        again = outcome(far.recv, 1, socket.MSG_OOB)
        return [ready, peeked, urgent, again, polled(far, select.POLLPRI), far.recv(10).decode()]


@case
def urgent_byte_alone():
    with pair() as (near, far):
        far.settimeout(None)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50000))
        near.send(b"!", socket.MSG_OOB)
        soon(lambda: "POLLPRI" in polled(far, select.POLLPRI))
        both = select.POLLIN | select.POLLPRI
        seen = [polled(far, both), unread(far), libc("sockatmark", far.fileno()), outcome(far.recv, 1, socket.MSG_PEEK)]
        seen += [outcome(far.recv, 1, socket.MSG_OOB), libc("sockatmark", far.fileno()), polled(far, both)]
        seen += [outcome(far.recv, 1, socket.MSG_PEEK)]
        near.shutdown(socket.SHUT_WR)
        soon(lambda: "POLLRDHUP" in polled(far))
        return [*seen, outcome(far.recv, 1, socket.MSG_PEEK), outcome(far.recv, 1)]


@case
def urgent_byte_inline():
    with pair() as (near, far):
        far.settimeout(5)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        near.sendall(b"ab")
        near.send(b"!", socket.MSG_OOB)
        near.sendall(b"cd")
        soon(lambda: unread(far) == 5)
        seen = [unread(far), libc("sockatmark", far.fileno()), far.recv(9).decode(), libc("sockatmark", far.fileno())]
        return [*seen, unread(far), far.recv(9).decode(), libc("sockatmark", far.fileno())]


@case
def urgent_byte_among_others():
    with pair() as (near, far):
        near.sendall(b"ab")
        near.send(b"!", socket.MSG_OOB)
        near.sendall(b"cd")
        soon(lambda: "POLLPRI" in polled(far, select.POLLPRI))
        time.sleep(0.05)
        far.settimeout(None)
        seen = [unread(far), outcome(far.recv, 9, socket.MSG_PEEK), far.recv(9, socket.MSG_WAITALL).decode()]
        seen += [unread(far), polled(far, select.POLLIN), outcome(far.recv, 9, socket.MSG_PEEK)]
        seen += [outcome(far.recv, 1, socket.MSG_OOB), unread(far), libc("sockatmark", far.fileno())]
        return [*seen, far.recv(1).decode(), unread(far), far.recv(9).decode()]


@case
def low_water_mark_beyond_the_buffer():
    with listener() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        near = socket.create_connection(door.getsockname()[:2], 3)
        far, _ = door.accept()
    with near, far:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 24)
        near.setblocking(False)
        outcome(near.send, b"x" * (1 << 20))
        return soon(lambda: "POLLIN" in polled(far))


@case
def nonblocking_send_fills_up():
    with pair() as (near, far):
        near.setblocking(False)
        total, last = 0, None
        while last is None:
            try:
                total += near.send(b"x" * 65536)
            except OSError as error:
                last = errno.errorcode[error.errno]
        full = polled(near, select.POLLOUT)
        got = 0
        while got < total:
            got += len(far.recv(1 << 20))
        return [last, full, got == total, polled(near, select.POLLOUT, 3000)]


@case
def nonblocking_accept_and_recv():
    with listener() as door, pair() as (near, _):
        door.setblocking(False)
        near.setblocking(False)
        return [outcome(door.accept), outcome(near.recv, 1)]


@case
def accept_deferred_until_text():
    with listener() as server:
        seconds = []
        for asked in (0, -1, 1, 2, 5, 64, 128, 5):
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, asked)
            seconds.append(server.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT))
        server.setblocking(False)
        with socket.socket(server.family) as near:
            near.connect(server.getsockname())
            time.sleep(0.1)
            before = [polled(server), outcome(server.accept)]
            near.sendall(b"text")
            soon(lambda: "POLLIN" in polled(server))
            far = server.accept()[0]
            with far:
                return [seconds, before, far.recv(10).decode()]


@case
def receive_timeout():
    with pair() as (near, _):
        near.setblocking(True)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100000))
        start = time.monotonic()
        result = outcome(near.recv, 1)
        return [result, 0.05 < time.monotonic() - start < 2]


@case
def zero_length_calls():
    with pair() as (near, far):
        number, byte = near.fileno(), ctypes.create_string_buffer(1)
        seen = [outcome(near.send, b""), outcome(near.recv, 0), polled(far)]
        seen.append(libc("recv", number, byte, 0, socket.MSG_DONTWAIT))
        seen.append(libc("read", number, byte, 0))
        far.sendall(b"x")
        seen.append(libc("recv", number, byte, 0, 0))
        with tcp() as fresh, listener() as door:
            seen += [libc("recv", each.fileno(), byte, 0, 0) for each in (fresh, door)]
        return [*seen, near.recv(9).decode()]


@case
def stdio_on_descriptor():
    with pair() as (near, far):
        written = libc("dprintf", near.fileno(), b"%s %d\n", b"number", ctypes.c_int(7))
        LIBC.fdopen.restype = ctypes.c_void_p
        copy = os.dup(far.fileno())
        stream, line = ctypes.c_void_p(LIBC.fdopen(copy, b"r")), ctypes.create_string_buffer(20)
        near.sendall(b"more\n")
        LIBC.fgets(line, 20, stream)
        return [written, line.value.decode(), libc("fflush", stream), libc("fclose", stream)]


@case
def lengths_and_counts_out_of_range():
    with pair() as (near, _):
        number, name, length = near.fileno(), ctypes.create_string_buffer(128), ctypes.c_int(-1)
        seen = [libc(call, number, name, ctypes.byref(length)) for call in ("getsockname", "getpeername")]
        seen.append(libc("getsockopt", number, socket.SOL_SOCKET, socket.SO_TYPE, name, ctypes.byref(length)))
        long_one = ctypes.create_string_buffer(struct.pack("i", 1) + bytes(200))
        seen.append(libc("setsockopt", number, socket.SOL_SOCKET, socket.SO_KEEPALIVE, long_one, 200))
        pieces = ctypes.create_string_buffer(16 * 1025)
        return [*seen, libc("writev", number, pieces, 1025), libc("readv", number, pieces, 1025)]


@case
def lengths_below_zero():
    with pair() as (near, far), listener() as door:
        far.sendall(b"abcd")
        soon(lambda: unread(near) == 4)
        byte = ctypes.create_string_buffer(1)
        number, here = near.fileno(), ctypes.addressof(byte)
        pieces = ctypes.create_string_buffer(struct.pack("QQQQ", here, 1, here, 2**64 - 1))
        message = ctypes.create_string_buffer(struct.pack("QQQQQQQ", 0, 0, ctypes.addressof(pieces), 2, 0, 0, 0))
        seen = [libc(call, number, pieces, 2) for call in ("writev", "readv")]
        seen += [libc(call, number, message, 0) for call in ("sendmsg", "recvmsg")]
        seen += [libc(call, number, byte, ctypes.c_size_t(2**64 - 1)) for call in ("write", "read")]
        with socket.create_connection(door.getsockname()[:2], 3):
            soon(lambda: "POLLIN" in polled(door))
            return [*seen, unread(near), libc("accept", door.fileno(), byte, ctypes.byref(ctypes.c_int(-1)))]


@case
def control_messages_of_a_stream():
    def message(level, kind, length=20):
        return struct.pack("Qii4x4x", length, level, kind)

    with pair() as (near, _):
        seen = []
        for control in (message(socket.SOL_SOCKET, 99), message(socket.SOL_SOCKET, 99, 2), message(socket.IPPROTO_IP, 8),
                        message(socket.IPPROTO_IP, 8, 200)):
            room = ctypes.create_string_buffer(control)
            piece = ctypes.create_string_buffer(b"ab")
            pieces = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(piece), 2))
            header = struct.pack("QQQQQQQ", 0, 0, ctypes.addressof(pieces), 1, ctypes.addressof(room), len(control), 0)
            seen.append(libc("sendmsg", near.fileno(), ctypes.create_string_buffer(header), 0))
        return seen


@case
def listen_again_with_more():
    with listener(1) as door:
        door.listen(100)
        clients = [tcp() for _ in range(60)]
        for each in clients:
            each.setblocking(False)
            each.connect_ex(door.getsockname())
        accepted = []
        door.settimeout(0.5)  # less than a SYN that was not answered is sent again
        while len(accepted) < 60 and not isinstance(one := outcome_of_accept(door), str):
            accepted.append(one)
        for each in clients + accepted:
            each.close()
        return len(accepted)


def outcome_of_accept(door):
    try:
        return door.accept()[0]
    except OSError as error:
        return str(error)


@case
def connect_again_into_the_send_timeout():
    with tcp() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 50000))
        return [outcome(s.connect, (nobody(), 9)) for _ in range(2)]


@case
def scatter_gather():
    with pair() as (near, far):
        sent = near.sendmsg([b"one", b"", b"two", b"three"])
        soon(lambda: "POLLIN" in polled(far))
        a, b = bytearray(4), bytearray(20)
        count, _, flags, _ = far.recvmsg_into([a, b])
        return [sent, count, a.decode(), b[:7].decode(), flags]


@case
def readv_writev_on_descriptor():
    with pair() as (near, far):
        sent = os.writev(near.fileno(), [b"abc", b"def"])
        soon(lambda: "POLLIN" in polled(far))
        a, b = bytearray(2), bytearray(10)
        return [sent, os.readv(far.fileno(), [a, b]), (a + b).rstrip(b"\0").decode()]


@case
def send_file():
    with pair() as (near, far), open(__file__, "rb") as file:
        want = file.read()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        sent = 0
        while sent < len(want):
            sent += os.sendfile(near.fileno(), file.fileno(), sent, len(want) - sent)
        near.shutdown(socket.SHUT_WR)
        return receive_all(far) == want


@case
def lseek_and_fstat():
    with pair() as (near, _):
        return [outcome(os.lseek, near.fileno(), 0, os.SEEK_CUR), (os.fstat(near.fileno()).st_mode & 0o170000) == 0o140000]


@case
def fionread():
    with pair() as (near, far):
        near.sendall(b"12345")
        soon(lambda: "POLLIN" in polled(far))
        return unread(far)


@case
def other_questions_by_ioctl():
    with pair() as (near, far):
        near.sendall(b"12345")
        soon(lambda: "POLLIN" in polled(far))
        not_sent = struct.unpack("i", fcntl.ioctl(near.fileno(), 0x894B, b"\0" * 4))[0]  # SIOCOUTQNSD
        with listener() as door:
            assert outcome(fcntl.ioctl, door.fileno(), termios.TIOCOUTQ, b"\0" * 4) == "EINVAL"
        of_interface = struct.pack("16s24x", b"no-such-name")
        return [not_sent, *(outcome(fcntl.ioctl, near.fileno(), each, of_interface) for each in (0x8915, 0x891B))]


@case
def fcntl_nonblock_and_fionbio():
    with pair() as (near, _):
        near.setblocking(True)
        before = fcntl.fcntl(near.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
        fcntl.ioctl(near.fileno(), termios.FIONBIO, struct.pack("i", 1))
        after = fcntl.fcntl(near.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
        return [before, after, fcntl.fcntl(near.fileno(), fcntl.F_GETFL) & os.O_ACCMODE]
