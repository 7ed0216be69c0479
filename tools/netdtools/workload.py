"""Unmodified programs as servers and clients, each in a place: on netd (through netrun) or on a kernel, in a namespace.

Clients return figures and raise ToolError for whatever is not right: a wrong byte, an error that the program counted.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from . import process
from .process import ToolError, run


class Place:
    """Where a program runs: what stands before its command, and the address at which others reach it."""

    def __init__(self, name, prefix, address, environment=None):
        self.name, self.prefix, self.address = name, list(prefix), address
        self.environment = {**os.environ, **(environment or {})}

    def argv(self, command):
        return [str(part) for part in (*self.prefix, *command)]

    def on_cpus(self, cpus):
        """The same place with its programs bound to a CPU list; None binds nothing."""
        if cpus is None:
            return self
        return Place(f"{self.name} on CPU {cpus}", ["taskset", "-c", cpus, *self.prefix], self.address, self.environment)

    def run(self, command, timeout=60, **options):
        return run(self.argv(command), timeout=timeout, env=self.environment, **options)


def on_netd(bed, *options, six=False):
    return Place("netd", bed.netrun(*options), bed.netd_address6 if six else bed.netd_address)


def on_peer(bed, six=False):
    return Place("kernel peer", bed.peer.prefix, bed.peer_address6 if six else bed.peer_address)


def on_veth(pair):
    """The serving and the asking side of the kernel against itself."""
    return Place("kernel", pair.a.prefix, pair.a_address), Place("kernel", pair.b.prefix, pair.b_address)


REACH = """
import socket, sys, time
end = time.monotonic() + float(sys.argv[3])
while True:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()
        break
    except OSError as error:
        if time.monotonic() > end:
            sys.exit(f"{sys.argv[1]} port {sys.argv[2]}: {error}")
        time.sleep(0.05)
"""


def wait_until_it_says(text, log, seconds):
    end = time.monotonic() + seconds
    while text not in pathlib.Path(log).read_text(errors="replace"):
        if time.monotonic() > end:
            raise ToolError(f"it never said '{text}'")
        time.sleep(0.05)


def wait_until_it_serves(place, command, log, port, reached_from, seconds):
    if command[0] == "iperf3":
        # A connection to see whether it serves would be taken for a test, and resets the next one when it ends.
        wait_until_it_says("Server listening", log, seconds)
    else:
        reached_from.run([sys.executable, "-c", REACH, place.address, port, seconds], timeout=seconds + 10)


@contextlib.contextmanager
def serving(place, command, log, port=None, reached_from=None, settle=10, cwd=None):
    """Runs a server while the body runs. With a port, waits until a client in `reached_from` is accepted.

    Yields the Popen. At the end TERM goes to the program itself (a master tells its workers), KILL to what is left.
    """
    with open(log, "wb") as file:
        server = subprocess.Popen(place.argv(command), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                  start_new_session=True, cwd=cwd, env=place.environment)
    try:
        if port:
            try:
                wait_until_it_serves(place, command, log, port, reached_from, settle)
            except ToolError as error:
                state = "runs" if server.poll() is None else f"ended with {server.returncode}"
                reason = str(error).strip().splitlines()[-1]
                raise ToolError(f"{command[0]} in place '{place.name}' {state} and does not serve: {reason}\n"
                                + process.tail_of_file(log)) from None
        yield server
    finally:
        stop(server)


def stop(server, grace=5):
    if server.poll() is None:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(grace)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


HOLD = """
import resource, socket, sys
side, address, port, count, keepalive = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, max(count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
held = []
if side == "serve":
    door = socket.create_server((address, port), backlog=1024)
    if keepalive:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive)
    print("listens", flush=True)
    while len(held) < count:
        held.append(door.accept()[0])
else:
    while len(held) < count:
        held.append(socket.create_connection((address, port), 10))
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held_connections(server, client, port, count, scratch, keepalive=0):
    """Idle connections between two places while the body runs. keepalive: seconds of silence after which the server's end
    asks whether the client is there; 0 = never."""
    running = []
    with contextlib.ExitStack() as logs:
        try:
            for side, place, first in (("serve", server, "listens"), ("connect", client, None)):
                log = logs.enter_context(open(scratch / f"hold-{side}.log", "w"))
                running.append(subprocess.Popen(
                    place.argv([sys.executable, "-c", HOLD, side, server.address, port, count, keepalive]), stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=log, text=True, env=place.environment))
                if first and running[-1].stdout.readline().strip() != first:
                    raise ToolError(process.tail_of_file(scratch / f"hold-{side}.log"))
            for side, holder in zip(("serve", "connect"), running):
                if holder.stdout.readline().strip() != "held":
                    raise ToolError(f"{count} connections could not be held:\n"
                                    + process.tail_of_file(scratch / f"hold-{side}.log", 4))
            yield
        finally:
            for holder in running:
                holder.kill()
                holder.communicate()


# Servers -------------------------------------------------------------------------------------------------------------


def redis_server(place, port, directory):
    return ["redis-server", "--port", str(port), "--bind", place.address, "--protected-mode", "no", "--save", "",
            "--appendonly", "no", "--daemonize", "no", "--dir", str(directory)]


def nginx(place, port, directory, root, workers=2):
    """nginx with everything it writes below `directory`; serves the files of `root`."""
    temporary = "".join(f"  {kind}_temp_path {directory}/{kind};\n"
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    # As root the workers would become 'nobody', who may not read a private directory.
    user = "user root;\n" if os.geteuid() == 0 or "nsenter" in place.prefix else ""
    config = directory / f"nginx-{port}.conf"
    config.write_text(
        f"daemon off;\nmaster_process on;\nworker_processes {workers};\n{user}pid {directory}/nginx-{port}.pid;\n"
        f"error_log stderr warn;\nevents {{ worker_connections 2048; }}\nhttp {{\n  access_log off;\n{temporary}"
        f"  sendfile on;\n  keepalive_requests 100000000;\n  default_type application/octet-stream;\n"
        f"  server {{ listen {place.address}:{port}; root {root}; }}\n}}\n")
    return ["nginx", "-p", str(directory), "-c", str(config), "-e", "stderr"]


def http_server(place, port, root):
    return [sys.executable, "-u", "-m", "http.server", str(port), "--bind", place.address, "--directory", str(root)]


def iperf3_server(place, port):
    return ["iperf3", "-s", "-B", place.address, "-p", str(port), "--forceflush"]


def memcached(place, port):
    # As root memcached insists on a user to become.
    user = ["-u", "root"] if os.geteuid() == 0 or "nsenter" in place.prefix else []
    return ["memcached", "-l", place.address, "-p", str(port), "-U", "0", "-t", "2", *user]


# Clients -------------------------------------------------------------------------------------------------------------


def redis_benchmark(place, address, port, tests="set,get", requests=50000, clients=50, pipeline=1, timeout=120):
    """Requests per second by test name."""
    done = place.run(["redis-benchmark", "-h", address, "-p", port, "-t", tests, "-n", requests, "-c", clients,
                      "-P", pipeline, "--csv"], timeout=timeout)
    complaint = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
    if complaint:
        raise ToolError(f"redis-benchmark: {complaint[0]}")
    figures = {row[0]: float(row[1]) for row in csv.reader(io.StringIO(done.stdout)) if len(row) > 1 and row[0] != "test"}
    if len(figures) < len(tests.split(",")):
        raise ToolError(f"redis-benchmark gave no figures for some of {tests}:\n{process.tail_of(done.stdout)}")
    return figures


def wrk(place, address, port, path, seconds=2, connections=32, close=False):
    """Requests per second; a socket error or an answer other than 2xx and 3xx is a failure."""
    header = ["-H", "Connection: close"] if close else []
    done = place.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", *header,
                      f"http://{address}:{port}/{path}"], timeout=seconds + 60)
    wrong = re.search(r"(Socket errors: .*|Non-2xx.*)", done.stdout)
    if wrong:
        raise ToolError(f"wrk: {wrong.group(1)}")
    rate = re.search(r"Requests/sec:\s*([\d.]+)", done.stdout)
    if not rate or float(rate.group(1)) == 0:
        raise ToolError(f"wrk made no requests:\n{process.tail_of(done.stdout)}")
    return float(rate.group(1))


def iperf3(place, address, port, seconds=3, reverse=False, streams=1, udp=False, rate="1G"):
    """Bytes per second as the receiver counts them. The congestion control of both ends must be CUBIC where TCP says it.
    With udp: datagrams sent, and the percentage that was lost."""
    command = ["iperf3", "-c", address, "-p", port, "-t", seconds, "-P", streams, "-J", "--connect-timeout", "5000"]
    command += ["-R"] if reverse else []
    command += ["-u", "-b", rate, "-l", "1400"] if udp else []
    done = place.run(command, timeout=seconds + 40, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise ToolError(f"iperf3 ended with {done.returncode}:\n{process.tail_of(done.stdout)}{done.stderr}") from None
    if "error" in report or done.returncode != 0:
        raise ToolError(f"iperf3: {report.get('error', done.returncode)}")
    end = report["end"]
    for side in ("sender_tcp_congestion", "receiver_tcp_congestion"):
        if end.get(side, "cubic") != "cubic":
            raise ToolError(f"iperf3: {side} is {end[side]}, not cubic: the figures would not compare")
    received = end["sum"] if udp else end["sum_received"]
    if received["bytes"] == 0:
        raise ToolError("iperf3: no byte arrived")
    if udp:
        return received["packets"], received["lost_percent"]
    return received["bits_per_second"] / 8


def fetch(place, url, timeout=120):
    """curl of a URL: the SHA-256 of what it wrote, its length and its speed in bytes per second."""
    command = place.argv(["curl", "-sSf", "--max-time", timeout, "-w", "%{stderr}speed %{speed_download}\n", url])
    digest, length = hashlib.sha256(), 0
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=place.environment) as curl:
        while block := curl.stdout.read(1 << 20):
            digest.update(block)
            length += len(block)
        said = curl.stderr.read().decode(errors="replace")
    speed = re.search(r"speed ([\d.]+)", said)
    if curl.returncode != 0 or not speed:
        raise ToolError(f"curl {url}: exit code {curl.returncode}: {said.strip()}")
    return digest.hexdigest(), length, float(speed.group(1))


def random_file(path, size):
    """A file of random bytes; its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for start in range(0, size, 1 << 20):
            block = os.urandom(min(1 << 20, size - start))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()
