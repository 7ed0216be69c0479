"""Processes: run one and explain its failure, name one so that a reused pid is not mistaken for it, end one."""

import contextlib
import os
import signal
import subprocess
import threading
import time


class ToolError(Exception):
    """A failure whose text is meant for the person at the terminal."""


class HeldSignals:
    """Signals whose handlers would raise wait until release(): while Popen runs there may be a child whose number nobody
    has yet. In the main thread; others hear of none."""

    NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)

    def __init__(self):
        self.came = []
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            for number in self.NUMBERS:
                if callable(signal.getsignal(number)):
                    self.before[number] = signal.signal(number, lambda came, _: self.came.append(came))

    def release(self):
        for number, handler in self.before.items():
            signal.signal(number, handler)
        for number in self.came:
            signal.raise_signal(number)


def started(argv, **options):
    """Popen of argv, and the signals that are to be released where its end is seen to."""
    held = HeldSignals()
    try:
        return subprocess.Popen(argv, **options), held
    except BaseException:
        held.release()
        raise


def run_group(argv, timeout, **options):
    """Runs argv in a session of its own to its end. When it has none in time, or the wait is interrupted, everything that
    it started ends with it, so that nobody waits for a grandchild that holds a pipe open."""
    options.setdefault("stdin", subprocess.DEVNULL)
    child, held = started(argv, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          start_new_session=True, **options)
    with child:
        try:
            held.release()
            output, errors = child.communicate(timeout=timeout)
        except BaseException as why:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            if isinstance(why, subprocess.TimeoutExpired):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    why.stdout, why.stderr = child.communicate(timeout=2)
            raise
    return subprocess.CompletedProcess(argv, child.returncode, output, errors)


def run(argv, timeout=30, check=True, **options):
    """Runs argv to its end and returns the CompletedProcess with its text; a failure says what ran and what it said."""
    argv = [str(part) for part in argv]
    try:
        done = run_group(argv, timeout, **options)
    except FileNotFoundError:
        raise ToolError(f"{argv[0]} is not installed; run tools/install-deps") from None
    except subprocess.TimeoutExpired as late:
        raise ToolError(f"no end after {timeout:.0f} s: {' '.join(argv)}\n{tail_of(late.stdout)}{tail_of(late.stderr)}") from None
    if check and done.returncode != 0:
        raise ToolError(f"exit code {done.returncode}: {' '.join(argv)}\n{tail_of(done.stdout)}{tail_of(done.stderr)}".rstrip())
    return done


def tail_of(text, lines=15):
    """The last lines of a text (or of the bytes a timeout leaves behind)."""
    if not text:
        return ""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    return "\n".join(text.rstrip().splitlines()[-lines:]) + "\n"


def tail_of_file(path, lines=15):
    try:
        with open(path, errors="replace") as file:
            return tail_of(file.read(), lines)
    except OSError:
        return ""


def start_time(pid):
    """Field 22 of /proc/PID/stat, which together with the pid names one process; None once it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def identity(pid):
    return [pid, start_time(pid)]


def is_alive(who):
    pid, started = who
    return started is not None and start_time(pid) == started


def end(who, grace=3.0):
    """Ends the process that `who` (from identity()) names: TERM, then KILL. True if TERM was enough."""
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        if not is_alive(who):
            return True
        try:
            os.kill(who[0], number)
        except ProcessLookupError:
            return True
        if wait_until(lambda: not is_alive(who), seconds):
            return number == signal.SIGTERM
    return False


def wait_until(condition, seconds, step=0.02):
    """Polls the condition until it is true or the time is over; its last value."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return bool(condition())
        time.sleep(step)
    return True
