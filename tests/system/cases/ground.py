"""What the cases are written with. A case returns what it observed, and nothing that may differ by right (ports, sizes, times)."""

import contextlib
import ctypes
import errno
import select
import socket
import struct
import sys
import time


HERE = sys.argv[1]
FAMILY = socket.AF_INET6 if ":" in HERE else socket.AF_INET
CASES = []


def case(function):
    CASES.append(function)
    return function


def outcome(call, *arguments):
    """What a call gives: its value, or the name of its errno."""
    try:
        value = call(*arguments)
    except BlockingIOError as error:
        return errno.errorcode[error.errno]
    except TimeoutError:
        return "TIMEOUT"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return value if isinstance(value, (int, str, list, type(None))) else repr(value)


LIBC = ctypes.CDLL(None, use_errno=True)


def libc(name, *arguments):
    """What a call of libc gives, or the name of its errno: calls that Python does not make as they are."""
    ctypes.set_errno(0)
    value = getattr(LIBC, name)(*arguments)
    return errno.errorcode[ctypes.get_errno()] if value == -1 else value


def tcp():
    return socket.socket(FAMILY, socket.SOCK_STREAM)


def udp(bound=True):
    s = socket.socket(FAMILY, socket.SOCK_DGRAM)
    s.settimeout(3)
    if bound:
        s.bind((HERE, 0))
    return s


def listener(backlog=16):
    s = tcp()
    s.bind((HERE, 0))
    s.listen(backlog)
    return s


@contextlib.contextmanager
def pair():
    """A connected pair: (the connecting end, the accepted end)."""
    with listener() as door:
        near = socket.create_connection(door.getsockname()[:2], 3)
        far, _ = door.accept()
    near.settimeout(3)
    far.settimeout(3)
    with near, far:
        yield near, far


def events(mask):
    names = ("POLLIN", "POLLPRI", "POLLOUT", "POLLERR", "POLLHUP", "POLLRDHUP")
    return "+".join(name for name in names if mask & getattr(select, name)) or "none"


def polled(s, ask=select.POLLIN | select.POLLOUT | select.POLLRDHUP, wait=0):
    p = select.poll()
    p.register(s, ask)
    found = p.poll(wait)
    return events(found[0][1]) if found else "none"


def soon(condition):
    end = time.monotonic() + 3
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(condition())


def nothing_now(s):
    """A receive that must not wait. (With a Python timeout set, Python itself would wait.)"""
    s.settimeout(None)
    return outcome(s.recv, 1, socket.MSG_DONTWAIT)


def name_of_error(s):
    """SO_ERROR, taken."""
    return errno.errorcode.get(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)


def connect_to_nothing(s):
    """connect(2) to AF_UNSPEC, which Python has no words for."""
    address = struct.pack("H14x", socket.AF_UNSPEC)
    rc = ctypes.CDLL(None, use_errno=True).connect(s.fileno(), address, len(address))
    return 0 if rc == 0 else errno.errorcode[ctypes.get_errno()]


def receive_all(s):
    parts = []
    while part := s.recv(65536):
        parts.append(part)
    return b"".join(parts)
