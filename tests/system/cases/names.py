"""Names and states of sockets: bind, listen, connect, options."""

import errno
import select
import socket
import struct
import subprocess
import sys
import time

from cases.ground import HERE, case, connect_to_nothing, listener, name_of_error, outcome, pair, polled, receive_all, soon, tcp, udp


@case
def bind_then_getsockname():
    with tcp() as s:
        s.bind((HERE, 0))
        name = s.getsockname()
        return [name[0] == HERE, name[1] > 0, outcome(s.bind, (HERE, 0))]


@case
def bind_in_use():
    with listener() as a, tcp() as b:
        return outcome(b.bind, a.getsockname())


@case
def bind_same_port_reuseaddr_while_listening():
    with listener() as a, tcp() as b:
        b.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return outcome(b.bind, a.getsockname())


@case
def bind_again_after_close():
    with listener() as a:
        name = a.getsockname()
    with tcp() as b:
        return outcome(b.bind, name)


@case
def bind_after_time_wait():
    with tcp() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((HERE, 0))
        door.listen(5)
        name = door.getsockname()
        near = socket.create_connection(name[:2], 3)
        far, _ = door.accept()
        far.close()
        near.recv(1)
        near.close()
    time.sleep(0.1)
    with tcp() as plain, tcp() as reusing:
        reusing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return [outcome(plain.bind, name), outcome(reusing.bind, name)]


@case
def getpeername():
    with pair() as (near, far), tcp() as loose:
        return [near.getpeername() == far.getsockname(), far.getpeername() == near.getsockname(), outcome(loose.getpeername)]


@case
def listen_twice_and_accept_on_plain():
    with listener() as door, tcp() as s:
        return [outcome(door.listen, 5), outcome(s.accept)]


@case
def listener_shut_down_is_as_new():
    with listener() as door, listener() as other, tcp() as nobody:
        nobody.bind((HERE, 0))
        seen = [outcome(door.shutdown, socket.SHUT_WR), outcome(door.connect, other.getsockname()[:2])]
        door.shutdown(socket.SHUT_RDWR)
        seen += [polled(door), outcome(door.accept), outcome(door.connect, nobody.getsockname()[:2])]
        door.listen(4)  # the kernel may have chosen another port
        with socket.create_connection(door.getsockname()[:2], 3) as near, door.accept()[0] as far:
            near.sendall(b"text")
            seen += [far.recv(4).decode(), polled(door)]
            door.shutdown(socket.SHUT_RD)
            door.connect(other.getsockname()[:2])
            with other.accept()[0] as end:
                end.sendall(b"more")
                return [*seen, door.recv(4).decode(), outcome(door.listen, 4)]


@case
def connect_on_listener():
    with listener() as door, listener() as other:
        return outcome(door.connect, other.getsockname())


# Another program, so that netd joins nothing: accepts twice, says something each time, and prints what it heard.
OTHER_END = """
import errno, socket, sys
door = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
door.bind((sys.argv[1], 0))
door.listen(4)
print(door.getsockname()[1], flush=True)
for _ in range(2):
    s = door.accept()[0]
    s.sendall(b"hello")
    heard = []
    try:
        while part := s.recv(100):
            heard.append(part.decode())
    except OSError as error:
        heard.append(errno.errorcode[error.errno])
    print("+".join(heard), flush=True)
"""


@case
def connect_to_nothing_resets_a_connection():
    other = subprocess.Popen([sys.executable, "-c", OTHER_END, HERE], stdout=subprocess.PIPE, text=True)
    try:
        port = int(other.stdout.readline())
        with socket.create_connection((HERE, port), 3) as s:
            s.settimeout(3)
            s.sendall(b"first")
            soon(lambda: "POLLIN" in polled(s))
            time.sleep(0.1)  # it has been read there
            seen = [connect_to_nothing(s), polled(s), name_of_error(s), outcome(s.recv, 1), outcome(s.send, b"x")]
            seen += [outcome(s.getpeername), other.stdout.readline().strip()]
            seen += [outcome(s.connect, (HERE, port)), name_of_error(s)]
            s.sendall(b"second")
            s.shutdown(socket.SHUT_WR)
            return seen + [receive_all(s).decode(), other.stdout.readline().strip()]
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


@case
def connect_to_nothing_ends_a_listener():
    with listener() as door, listener() as other:
        seen = [connect_to_nothing(door), outcome(door.accept), name_of_error(door), polled(door)]
        door.connect(other.getsockname()[:2])
        return seen + [connect_to_nothing(tcp())]


@case
def connect_twice():
    with listener() as door, tcp() as s:
        s.connect(door.getsockname())
        return outcome(s.connect, door.getsockname())


@case
def connect_refused_blocking():
    with tcp() as free:
        free.bind((HERE, 0))
        with tcp() as s:
            first = outcome(s.connect, free.getsockname())
            return [first, outcome(s.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)]


@case
def connect_refused_then_again():
    with tcp() as free:
        free.bind((HERE, 0))
        with tcp() as s:
            first = outcome(s.connect, free.getsockname())
            free.listen(1)
            return [first, outcome(s.connect, free.getsockname())]


@case
def connect_nonblocking():
    with listener() as door, tcp() as s:
        s.setblocking(False)
        first = s.connect_ex(door.getsockname())
        ready = polled(s, select.POLLOUT, 3000)
        return [first in (0, errno.EINPROGRESS), ready, s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]


@case
def connect_nonblocking_refused():
    with tcp() as free, tcp() as s:
        free.bind((HERE, 0))
        s.setblocking(False)
        first = s.connect_ex(free.getsockname())
        ready = polled(s, select.POLLOUT | select.POLLIN, 3000)
        errors = [errno.errorcode.get(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0) for _ in range(2)]
        return [first in (errno.ECONNREFUSED, errno.EINPROGRESS), "POLLERR" in ready or first == errno.ECONNREFUSED,
                errors[-1]]


@case
def send_without_connection():
    with tcp() as s:
        return [outcome(s.send, b"x"), outcome(s.recv, 1), outcome(s.shutdown, socket.SHUT_WR)]


@case
def poll_of_fresh_socket():
    with tcp() as s:
        return polled(s)


@case
def poll_of_listener():
    with listener() as door:
        before = polled(door)
        with socket.create_connection(door.getsockname()[:2], 3):
            after = polled(door, wait=3000)
            door.accept()[0].close()
        return [before, after]


@case
def socket_type_options():
    with listener() as door, pair() as (near, _):
        level = socket.SOL_SOCKET
        return [door.getsockopt(level, socket.SO_ACCEPTCONN), near.getsockopt(level, socket.SO_ACCEPTCONN),
                near.getsockopt(level, socket.SO_TYPE), near.getsockopt(level, socket.SO_DOMAIN),
                near.getsockopt(level, socket.SO_PROTOCOL)]


@case
def option_round_trips():
    values = []
    with tcp() as s:
        for level, name, value in (
                (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77),
                (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 7), (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
                (socket.IPPROTO_TCP, socket.TCP_CORK, 1), (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)):
            before = outcome(s.getsockopt, level, name)
            values.append([before, outcome(s.setsockopt, level, name, value), outcome(s.getsockopt, level, name)])
    return values


@case
def option_linger2_below_zero():
    with pair() as (near, _):
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, -1)
        return near.getsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2)


@case
def option_linger_round_trip():
    with tcp() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
        return list(struct.unpack("ii", s.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)))


@case
def option_unknown():
    with tcp() as s:
        return [outcome(s.getsockopt, socket.IPPROTO_TCP, 9999), outcome(s.setsockopt, socket.IPPROTO_TCP, 9999, 1)]


def sharing(make):
    s = make()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return s


@case
def reuseport_rules():
    with sharing(tcp) as a, sharing(tcp) as b, tcp() as plain, tcp() as reusing:
        a.bind((HERE, 0))
        a.listen(5)
        reusing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        name = a.getsockname()
        results = [outcome(b.bind, name), outcome(b.listen, 5), outcome(plain.bind, name), outcome(reusing.bind, name)]
        with socket.create_connection(name[:2], 3), sharing(tcp) as late:
            return results + [outcome(late.bind, name)]


@case
def reuseport_listeners_share_connections():
    with sharing(tcp) as a, sharing(tcp) as b:
        a.bind((HERE, 0))
        b.bind(a.getsockname())
        counts = []
        for s in (a, b):
            s.listen(100)
            s.setblocking(False)
        near = [socket.create_connection(a.getsockname()[:2], 3) for _ in range(60)]
        time.sleep(0.2)
        for s in (a, b):
            n = 0
            try:
                while True:
                    s.accept()[0].close()
                    n += 1
            except BlockingIOError:
                counts.append(n)
        for s in near:
            s.close()
        return [sum(counts), min(counts) > 0]


@case
def reuseport_datagram_flows_are_sticky():
    with sharing(lambda: udp(bound=False)) as a, sharing(lambda: udp(bound=False)) as b:
        results = [outcome(a.bind, (HERE, 0)), outcome(b.bind, a.getsockname())]
        senders = [udp() for _ in range(24)]
        for s in senders * 3:
            s.sendto(b"x", a.getsockname())
        time.sleep(0.2)
        seen = {}
        for name, s in (("a", a), ("b", b)):
            s.setblocking(False)
            try:
                while True:
                    seen.setdefault(s.recvfrom(10)[1], []).append(name)
            except BlockingIOError:
                pass
        for s in senders:
            s.close()
        takers = {names[0] for names in seen.values()}
        sticky = all(len(names) == 3 and len(set(names)) == 1 for names in seen.values())
        return results + [len(seen), sticky, len(takers)]
