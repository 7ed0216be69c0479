"""The two ends of one conversation over a bad link: `impaired_talk.py serve|ask ADDRESS PORT CASE`. Each end sends bytes that a
key tells and checks every byte of the other's; an end prints "ok" when all was right. Nothing is timed but the whole."""

import hashlib
import select
import socket
import sys
import time

BULK, HALF, TINY, PIECE = 1 << 20, 1 << 18, 1 << 14, 1 << 16  # bytes
MUCH = 4 * BULK  # more than the rings of both ends; the kernel's grow to that by themselves
PATIENCE = 120  # seconds for any one call: far more than any retransmission


def content(key, size):
    """`size` bytes that nobody else sends."""
    out, block = bytearray(), 0
    while len(out) < size:
        out += hashlib.sha512(f"{key} {block}".encode()).digest() * 16
        block += 1
    return bytes(out[:size])


def receive(s, size):
    got = bytearray()
    while len(got) < size:
        piece = s.recv(min(PIECE, size - len(got)))
        if not piece:
            raise AssertionError(f"the end after {len(got)} of {size} bytes")
        got += piece
    return bytes(got)


def receive_to_end(s):
    got = bytearray()
    while piece := s.recv(PIECE):
        got += piece
    return bytes(got)


def check(got, wanted, what):
    if got != wanted:
        at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
        raise AssertionError(f"{what}: {len(got)} bytes, {len(wanted)} wanted, different at {at}")


def expect_end(s):
    check(receive_to_end(s), b"", "after the end")


# ---- each case: (asker, server) ------------------------------------------------------------------------------------------


def bulk_ask(s, _):
    s.sendall(content("up", BULK))
    check(receive(s, BULK), content("down", BULK), "down")


def bulk_serve(s, _):
    check(receive(s, BULK), content("up", BULK), "up")
    s.sendall(content("down", BULK))


def both_ways(s, mine, other):
    """Both send at the same time; no end waits for the other to read first."""
    out, got, size = memoryview(content(mine, BULK)), bytearray(), BULK
    s.setblocking(False)
    while out or len(got) < size:
        readable, writable, _ = select.select([s], [s] if out else [], [], PATIENCE)
        if not readable and not writable:
            raise AssertionError("nothing moves")
        if writable:
            out = out[s.send(out[:PIECE]):]
        if readable:
            piece = s.recv(PIECE)
            if not piece:
                raise AssertionError(f"the end after {len(got)} bytes")
            got += piece
    s.setblocking(True)
    s.settimeout(PATIENCE)
    check(bytes(got), content(other, size), other)


def half_close_ask(s, _, size=HALF):
    s.sendall(content("first", size))
    s.shutdown(socket.SHUT_WR)
    check(receive_to_end(s), content("then", size), "then")


def half_close_serve(s, _, size=HALF):
    check(receive_to_end(s), content("first", size), "first")
    s.sendall(content("then", size))


def urgent_ask(s, _):
    s.sendall(content("before", 30000))
    s.send(b"!", socket.MSG_OOB)
    s.sendall(content("after", 30000))
    check(receive(s, 2), b"ok", "answer")


def urgent_serve(s, _):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    check(receive(s, 60001), content("before", 30000) + b"!" + content("after", 30000), "with an urgent byte")
    s.sendall(b"ok")


def zero_window_ask(s, _):
    """Writes until nothing goes any more, then tells the other end to read, over a second connection."""
    out = memoryview(content("much", MUCH))
    s.setblocking(False)
    while out:
        if not select.select([], [s], [], 2)[1]:
            break  # both rings are full and the window is shut
        out = out[s.send(out[:PIECE]):]
    s.setblocking(True)
    s.settimeout(PATIENCE)
    with socket.create_connection(s.getpeername()[:2], PATIENCE) as other:
        other.sendall(b"read")
        s.sendall(out)
        check(receive(s, 2), b"ok", "answer")


def zero_window_serve(s, listener):
    other, _ = listener.accept()
    with other:
        other.settimeout(PATIENCE)
        check(receive(other, 4), b"read", "word")
        check(receive(s, MUCH), content("much", MUCH), "much")
        s.sendall(b"ok")


def simultaneous(address, port, mine, other, serves):
    """Both connect from the port to the port. A first connection says when; half a round trip later the SYNs cross. Where one
    came too early it is refused, and both try again at the next port."""
    if serves:
        listener = listen(address, port)
        go, peer = listener.accept()
        there = peer[0]
    else:
        go, listener = dial(address, port), None
        there = address
    go.settimeout(PATIENCE)
    here = go.getsockname()[0]
    for number in range(1, 30):
        s = socket.socket(go.family)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((here, port + number))
        s.settimeout(5)
        if serves:
            go.sendall(b"g")
            time.sleep(0.02)  # half a round trip: only how often it takes depends on it
        else:
            check(receive(go, 1), b"g", "go")
        try:
            s.connect((there, port + number))
            worked = b"y"
        except OSError:
            worked = b"n"
        go.sendall(worked)
        if receive(go, 1) == b"y" and worked == b"y":
            s.settimeout(PATIENCE)
            both_ways(s, mine, other)
            s.close()
            go.close()
            if listener:
                listener.close()
            return number
        s.close()
    raise AssertionError("the SYNs never crossed")


CASES = {
    "bulk": (bulk_ask, bulk_serve),
    "both": (lambda s, _: both_ways(s, "asker", "server"), lambda s, _: both_ways(s, "server", "asker")),
    "half_close": (half_close_ask, half_close_serve),
    "urgent": (urgent_ask, urgent_serve),
    "zero_window": (zero_window_ask, zero_window_serve),
    "tiny": (lambda s, _: half_close_ask(s, _, TINY), lambda s, _: half_close_serve(s, _, TINY)),
}
SHORT = 30


def listen(address, port, tiny=False):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if tiny:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    s.bind((address, port))
    s.listen(16)
    s.settimeout(PATIENCE)
    return s


def dial(address, port, tiny=False):
    """SYNs get lost, and the server may not listen yet."""
    for _ in range(50):
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        if tiny:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.settimeout(PATIENCE)
        try:
            s.connect((address, port))
            return s
        except ConnectionRefusedError:
            s.close()
            time.sleep(0.1)
    raise AssertionError("refused")


def serve(address, port, case):
    with listen(address, port, case == "tiny") as listener:
        for number in range(SHORT if case == "short" else 1):
            s, _ = listener.accept()
            with s:
                s.settimeout(PATIENCE)
                if case == "short":
                    check(receive(s, 100), content(number, 100), "question")
                    s.sendall(content(-number, 200))
                else:
                    CASES[case][1](s, listener)
                s.shutdown(socket.SHUT_WR)
                expect_end(s)


def ask(address, port, case):
    for number in range(SHORT if case == "short" else 1):
        with dial(address, port, case == "tiny") as s:
            if case == "short":
                s.sendall(content(number, 100))
                check(receive(s, 200), content(-number, 200), "answer")
                s.shutdown(socket.SHUT_WR)
            else:
                CASES[case][0](s, None)
                if case != "half_close" and case != "tiny":
                    s.shutdown(socket.SHUT_WR)
            expect_end(s)


def main():
    role, address, port, case = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    if case == "simultaneous":
        mine, other = ("server", "asker") if role == "serve" else ("asker", "server")
        simultaneous(address, port, mine, other, role == "serve")
    else:
        (serve if role == "serve" else ask)(address, port, case)
    print("ok")


if __name__ == "__main__":
    main()
