"""The calls of a script, made through a backend: arguments to C and back, results and outputs compared.

A descriptor of the script is mapped to the live one that the call which the script expects it from returned.
"""

import ctypes
import errno
import os
import socket
import struct
import threading

from pd_backends import INT, LOCAL, PORT, REMOTE, libc
from pd_script import ELLIPSIS, SYMBOLS, ScriptError

UNSET = object()


class Failure(Exception):
    """What the script says and what happened are two things."""


def sockaddr(address, port):
    return struct.pack("<H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(address) + b"\0" * 8


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("name_size", ctypes.c_uint), ("parts", ctypes.c_void_p), ("count", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("control_size", ctypes.c_size_t), ("flags", INT)]


# struct tcp_info of Linux: one byte each, then words and double words as the letters say.
INFO_BYTES = "state ca_state retransmits probes backoff options wscales app_limited".split()
INFO_WORDS = [
    ("I", "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent last_data_recv "
          "last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans"),
    ("Q", "pacing_rate max_pacing_rate bytes_acked bytes_received"),
    ("I", "segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out"),
    ("Q", "delivery_rate busy_time rwnd_limited sndbuf_limited"), ("I", "delivered delivered_ce"),
    ("Q", "bytes_sent bytes_retrans"), ("I", "dsack_dups reord_seen rcv_ooopack snd_wnd"),
]
TCP_STATES = dict(zip("ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK LISTEN CLOSING".split(),
                      range(1, 12)))


def tcp_info(data):
    data = data.ljust(240, b"\0")
    found = dict(zip((f"tcpi_{n}" for n in INFO_BYTES), data[:8]))
    found["tcpi_snd_wscale"], found["tcpi_rcv_wscale"] = data[6] & 15, data[6] >> 4
    at = 8
    for letter, names in INFO_WORDS:
        for name in names.split():
            found[f"tcpi_{name}"] = struct.unpack_from(f"<{letter}", data, at)[0]
            at += struct.calcsize(letter)
    return found


class Syscalls:
    def __init__(self, backend):
        self.backend = backend
        self.descriptors = {}  # script -> live
        self.last_tcp = None   # the descriptor that code blocks are about
        self.keep = threading.local()

    def live(self, fd):
        return self.descriptors.get(fd, fd)

    def hold(self, c_object):
        """Keeps memory alive that a structure only points to."""
        self.keep.objects = [*getattr(self.keep, "objects", []), c_object]
        return c_object

    def expect(self, what, wanted, got):
        if wanted != ELLIPSIS and wanted != got:
            raise Failure(f"{what} is {got}, the script says {wanted}")

    # ---- the call

    def begin(self, call):
        """(thunk, check): thunk() makes the call and gives (result, errno); check() compares its outputs."""
        method = getattr(self, "do_" + call.name, None)
        if method is None:
            raise ScriptError(f"a call that is not known: {call.name}")
        self.keep.objects = []
        name, arguments, check = method(*call.arguments)
        objects = self.keep.objects

        def thunk(keeps=objects):
            ctypes.set_errno(0)
            result = self.backend.call(name, *arguments)
            return result, ctypes.get_errno()
        return thunk, check

    def finish(self, call, result, code, check):
        wanted = call.result
        if call.name in ("socket", "accept", "epoll_create") and isinstance(wanted, int) and wanted >= 0 and result >= 0:
            self.descriptors[wanted] = result
            if call.name == "accept" or (call.name == "socket" and call.arguments[1] & 0xF == socket.SOCK_STREAM):
                self.last_tcp = result
        elif wanted != ELLIPSIS and result != wanted:
            raise Failure(f"{call.name} returned {result}{self.error_text(result, code)}, the script says {wanted}"
                          f"{' ' + call.errno if call.errno else ''}")
        if call.errno is not None and (result != -1 or code != SYMBOLS[call.errno]):
            raise Failure(f"{call.name}: {errno.errorcode.get(code, code)}, the script says {call.errno}")
        if check is not None and result >= 0:
            check()

    @staticmethod
    def error_text(result, code):
        return f" ({errno.errorcode.get(code, code)})" if result == -1 else ""

    # ---- arguments

    def buffer(self, size):
        return self.hold(ctypes.create_string_buffer(max(size, 1)))

    def address(self, value, default):
        """(pointer, size) of a socket address: the default for '...', none for NULL, or {sa_family=..., ...}."""
        if value == 0:
            return None, 0
        raw = default
        if isinstance(value, dict):
            raw = struct.pack("<H", value["sa_family"])
            if value["sa_family"] != socket.AF_UNSPEC:
                raw = sockaddr(value["sin_addr"], value["sin_port"])
        return self.hold(ctypes.create_string_buffer(raw, len(raw))), len(raw)

    def room_for_address(self):
        return self.buffer(128), self.hold(ctypes.byref(self.hold(ctypes.c_uint(128))))

    def parts(self, value):
        sizes = [p[1] for p in value]
        vector = (Iovec * max(len(sizes), 1))()
        for i, size in enumerate(sizes):
            vector[i] = Iovec(ctypes.addressof(self.buffer(size)), size)
        return self.hold(vector), len(sizes)

    def message(self, value):
        m = Msghdr()
        vector, m.count = self.parts(value["msg_iov"])
        m.parts = ctypes.addressof(vector)
        if "msg_name" in value and value["msg_name"] != 0:
            pointer, m.name_size = self.address(value["msg_name"], sockaddr(REMOTE, PORT))
            m.name = ctypes.addressof(pointer)
        m.flags = value.get("msg_flags", 0) if isinstance(value.get("msg_flags", 0), int) else 0
        return self.hold(m)

    def option_value(self, value):
        match value:
            case [int(v)]:
                return struct.pack("<i", v)
            case {"onoff": onoff, "linger": linger} | {"l_onoff": onoff, "l_linger": linger}:
                return struct.pack("<ii", onoff, linger)
            case {"tv_sec": sec, "tv_usec": usec}:
                return struct.pack("<qq", sec, usec)
            case str(text) if text != ELLIPSIS:
                return text.encode()
            case [str(text)]:
                return text.encode()
        raise ScriptError(f"an option's value that is not known: {value}")

    # ---- one function a call: (member, arguments, check of outputs or None)

    def do_socket(self, domain, kind, protocol):
        return "socket", (socket.AF_INET if domain == ELLIPSIS else domain, kind, protocol), None

    def do_bind(self, fd, address, _size):
        return "bind", (self.live(fd), *self.address(address, sockaddr(LOCAL, PORT))), None

    def do_listen(self, fd, backlog):
        return "listen", (self.live(fd), backlog), None

    def do_accept(self, fd, _address, _size):
        return "accept", (self.live(fd), *self.room_for_address()), None

    def do_connect(self, fd, address, _size):
        return "connect", (self.live(fd), *self.address(address, sockaddr(REMOTE, PORT))), None

    def do_read(self, fd, _data, size):
        return "read", (self.live(fd), self.buffer(size), size), None

    def do_write(self, fd, _data, size):
        return "write", (self.live(fd), self.buffer(size), size), None

    def do_recv(self, fd, _data, size, flags):
        return "recv", (self.live(fd), self.buffer(size), size, flags), None

    def do_send(self, fd, _data, size, flags):
        return "send", (self.live(fd), self.buffer(size), size, flags), None

    def do_recvfrom(self, fd, _data, size, flags, _address, _size):
        return "recvfrom", (self.live(fd), self.buffer(size), size, flags, *self.room_for_address()), None

    def do_sendto(self, fd, _data, size, flags, address, _size):
        return "sendto", (self.live(fd), self.buffer(size), size, flags, *self.address(address, sockaddr(REMOTE, PORT))), None

    def do_readv(self, fd, parts, _count):
        return "readv", (self.live(fd), *self.parts(parts)), None

    def do_writev(self, fd, parts, _count):
        return "writev", (self.live(fd), *self.parts(parts)), None

    def do_sendmsg(self, fd, message, flags):
        return "sendmsg", (self.live(fd), ctypes.byref(self.message(message)), flags), None

    def do_recvmsg(self, fd, message, flags):
        m = self.message(message)
        wanted = message.get("msg_flags", ELLIPSIS)
        return "recvmsg", (self.live(fd), ctypes.byref(m), flags), lambda: self.expect("msg_flags", wanted, m.flags)

    def do_fcntl(self, fd, command, argument=0):
        return "fcntl", (self.live(fd), command, argument), None

    def do_ioctl(self, fd, request, value):
        number = self.hold(INT(value[0] if isinstance(value[0], int) else 0))
        return "ioctl", (self.live(fd), request, ctypes.byref(number)), lambda: self.expect("the value", value[0], number.value)

    def do_close(self, fd):
        live = self.live(fd)
        self.descriptors = {s: d for s, d in self.descriptors.items() if s != fd}
        return "close", (live,), None

    def do_shutdown(self, fd, how):
        return "shutdown", (self.live(fd), how), None

    def do_setsockopt(self, fd, level, name, value, size):
        raw = self.option_value(value)
        pointer = self.hold(ctypes.create_string_buffer(raw, max(len(raw), 1)))
        return "setsockopt", (self.live(fd), level, name, pointer, len(raw) if isinstance(value, (dict, str)) else size), None

    def do_getsockopt(self, fd, level, name, value, size):
        wanted = None if value == ELLIPSIS else self.option_value(value)
        room = len(wanted) if wanted else 240
        pointer = self.buffer(room)
        length = self.hold(ctypes.c_uint(size[0] if isinstance(size, list) and isinstance(size[0], int) else room))

        def check():
            if wanted is not None:
                got = pointer.raw[:length.value]
                if isinstance(value, str):
                    got = got.rstrip(b"\0")
                shown = struct.unpack("<i", got)[0] if len(got) == 4 else got
                if got != wanted:
                    raise Failure(f"the option is {shown}, the script says {value}")
        return "getsockopt", (self.live(fd), level, name, pointer, ctypes.byref(length)), check

    def do_poll(self, fds, count, ms):
        array = self.hold(ctypes.create_string_buffer(8 * max(count, 1)))
        for i, f in enumerate(fds):
            struct.pack_into("<ihh", array, 8 * i, self.live(f["fd"]), f.get("events", 0), 0)

        def check():
            for i, f in enumerate(fds):
                self.expect(f"revents of {f['fd']}", f.get("revents", ELLIPSIS), struct.unpack_from("<ihh", array, 8 * i)[2])
        return "poll", (array, count, ms), check

    @staticmethod
    def event_data(fields, fd):
        for kind in ("u64", "u32", "fd"):
            if kind in fields:
                return fields[kind]
        return fd

    def do_epoll_create(self, size):
        return "epoll_create", (size,), None

    def do_epoll_ctl(self, epoll, operation, fd, event):
        raw = struct.pack("<IQ", event["events"], self.event_data(event, fd)) if event != 0 else b"\0" * 12
        return "epoll_ctl", (self.live(epoll), operation, self.live(fd), self.hold(ctypes.create_string_buffer(raw, 12))), None

    def do_epoll_wait(self, epoll, events, count, ms):
        wanted = events if isinstance(events, list) else [events]
        array = self.buffer(12 * max(count, 1))

        def check():
            for i, e in enumerate(wanted):
                if e != ELLIPSIS:
                    bits, data = struct.unpack_from("<IQ", array, 12 * i)
                    self.expect("events", e.get("events", ELLIPSIS), bits)
                    self.expect("data", self.event_data(e, ELLIPSIS), data)
        return "epoll_wait", (self.live(epoll), array, count, ms), check

    def do_pipe(self, fds):
        pair = self.hold((INT * 2)())

        def check():
            self.descriptors |= dict(zip(fds, pair))
        return "pipe", (pair,), check

    def do_splice(self, source, _from_at, target, _to_at, size, flags):
        return "splice", (self.live(source), None, self.live(target), None, size, flags), None

    # ---- without the interface: what the tool and its code blocks do by themselves

    def code_names(self):
        """What a code block may use: TCP_INFO of the last TCP socket, by a getsockopt that is not in the table."""
        data = ctypes.create_string_buffer(240)
        size = ctypes.c_uint(240)
        if libc.getsockopt(self.last_tcp, 6, 11, data, ctypes.byref(size)) != 0:
            raise Failure(f"getsockopt(TCP_INFO) outside the table: {os.strerror(ctypes.get_errno())}")
        for name in ("TCP_CC_INFO", "SO_MEMINFO"):
            room = ctypes.create_string_buffer(256)
            length = ctypes.c_uint(256)
            if libc.getsockopt(self.last_tcp, 6 if name == "TCP_CC_INFO" else 1, SYMBOLS[name], room, ctypes.byref(length)) != 0:
                raise Failure(f"getsockopt({name}) outside the table: {os.strerror(ctypes.get_errno())}")
        options = {"TCPI_OPT_TIMESTAMPS": 1, "TCPI_OPT_SACK": 2, "TCPI_OPT_WSCALE": 4, "TCPI_OPT_ECN": 8}
        return tcp_info(data.raw[:size.value]) | {f"TCP_{n}": v for n, v in TCP_STATES.items()} | options

    def close_all(self):
        for fd in set(self.descriptors.values()):
            if libc.close(fd) != 0:
                raise Failure(f"close({fd}) outside the table: {os.strerror(ctypes.get_errno())}")
        self.descriptors = {}
