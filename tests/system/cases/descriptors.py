"""Sockets as descriptors: dup, fork, exec, passing, threads."""

import os
import resource
import signal
import socket
import threading
import time

from cases.ground import case, libc, listener, outcome, pair, polled, receive_all, soon


@case
def dup_keeps_open():
    with pair() as (near, far):
        copy = near.dup()
        near.close()
        copy.sendall(b"still here")
        heard = far.recv(100).decode()
        copy.close()
        return [heard, outcome(far.recv, 1)]


@case
def dup2_onto_socket_closes_it():
    with pair() as (near, far), pair() as (other, other_far):
        os.dup2(other.fileno(), near.fileno())
        end = outcome(far.recv, 1)
        os.write(near.fileno(), b"through")
        return [end, other_far.recv(100).decode()]


@case
def use_after_close():
    with pair() as (near, _):
        number = near.detach()
        os.close(number)
        return [outcome(os.write, number, b"x"), outcome(os.close, number)]


@case
def fork_both_may_write():
    with pair() as (near, far):
        child = os.fork()
        if child == 0:
            near.sendall(b"child")
            os._exit(0)
        os.waitpid(child, 0)
        near.sendall(b"parent")
        near.shutdown(socket.SHUT_WR)
        return receive_all(far).decode()


@case
def fork_child_exit_keeps_parents_socket():
    with pair() as (near, far):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        far.sendall(b"alive")
        return near.recv(10).decode()


@case
def fork_beside_a_call_holds_nothing_of_it():
    with pair() as (near, far):
        worker = threading.Thread(target=near.recv, args=(10,))
        worker.start()
        time.sleep(0.2)  # it is in its call; the child has no such thread
        child = os.fork()
        if child == 0:
            near.close()
            signal.pause()
        far.sendall(b"x")
        worker.join()
        near.close()
        far.settimeout(2)
        heard = outcome(far.recv, 10)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return heard


@case
def fork_workers_accept():
    with listener(64) as door:
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                while True:
                    s, _ = door.accept()
                    s.sendall(b"served")
                    s.close()
            children.append(child)
        answers = 0
        for _ in range(60):
            with socket.create_connection(door.getsockname()[:2], 3) as s:
                answers += receive_all(s) == b"served"
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        return answers


@case
def accept_without_a_free_descriptor():
    with listener() as door:
        with socket.create_connection(door.getsockname()[:2], 3) as near:
            near.sendall(b"kept")
            soon(lambda: "POLLIN" in polled(door))
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            next_number = os.dup(0)
            os.close(next_number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (next_number, before[1]))
            seen = [outcome(door.accept), outcome(door.accept)]
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            far, _ = door.accept()
            with far:
                far.settimeout(3)
                return [*seen, far.recv(9).decode()]


@case
def close_range_in_a_table_of_its_own():
    with pair() as (near, far):
        child = os.fork()
        if child == 0:
            libc("close_range", 3, (1 << 32) - 1, 2)  # CLOSE_RANGE_UNSHARE
            signal.pause()
        time.sleep(0.2)
        near.close()
        end = outcome(far.recv, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return end


@case
def exit_of_process_closes():
    with listener() as door:
        child = os.fork()
        if child == 0:
            s = socket.create_connection(door.getsockname()[:2], 3)
            s.sendall(b"bye")
            os._exit(0)
        far, _ = door.accept()
        with far:
            far.settimeout(3)
            os.waitpid(child, 0)
            return [receive_all(far).decode()]


@case
def exec_inherits_descriptor():
    with pair() as (near, far):
        os.set_inheritable(near.fileno(), True)
        child = os.fork()
        if child == 0:
            os.dup2(near.fileno(), 1)
            os.execvp("echo", ["echo", "from exec"])
        os.waitpid(child, 0)
        near.close()
        return receive_all(far).decode()


@case
def exec_closes_on_exec():
    with pair() as (near, far):
        child = os.fork()
        if child == 0:
            far.close()
            os.execvp("sleep", ["sleep", "1"])
        time.sleep(0.1)
        near.close()
        end = outcome(far.recv, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return end


@case
def passed_over_unix_socket():
    with pair() as (near, far):
        a, b = socket.socketpair()
        socket.send_fds(a, [b"x"], [near.fileno()])
        near.close()
        _, descriptors, _, _ = socket.recv_fds(b, 1, 1)
        os.write(descriptors[0], b"passed")
        os.close(descriptors[0])
        a.close()
        b.close()
        return receive_all(far).decode()


@case
def signal_interrupts_recv():
    with pair() as (near, _):
        near.settimeout(None)

        class Woken(Exception):
            pass

        def wake(*_):
            raise Woken

        signal.signal(signal.SIGUSR1, wake)
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        try:
            near.recv(1)
            return "data"
        except Woken:
            return "woken"
        finally:
            timer.join()
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)


@case
def threads_share_a_socket():
    with pair() as (near, far):
        writers = [threading.Thread(target=lambda: [near.sendall(b"x" * 1000) for _ in range(100)]) for _ in range(4)]
        for writer in writers:
            writer.start()
        got = 0
        while got < 400000:
            got += len(far.recv(65536))
        for writer in writers:
            writer.join()
        return got
