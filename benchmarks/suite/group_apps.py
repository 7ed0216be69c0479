"""Group apps: unmodified servers through netrun against the same servers on the kernel. Requests per second."""

import pathlib
import tempfile

from netdtools import workload

from .comparison import task


def redis(held, name, sides, pipeline):
    requests = int((25000 if pipeline == 1 else 200000) * held.seconds)
    return held.ratio(name, sides, lambda place, port: workload.redis_server(place, port, held.scratch),
                      lambda client, address, port: workload.redis_benchmark(
                          client, address, port, tests="get", requests=requests, pipeline=pipeline)["GET"],
                      f"GET/s, 50 connections, -P {pipeline}")


def redis_same_host(held, name):
    both = [redis(held, name, held.same_host, pipeline) for pipeline in (1, 16)]
    return min(both, key=lambda candidate: candidate["value"])


def nginx(held, name, close):
    files = held.scratch / "files"
    files.mkdir(exist_ok=True)
    (files / "small").write_text("x" * 612)

    def command(place, port):
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=held.scratch))
        return workload.nginx(place, port, folder, files)

    return held.ratio(name, held.over_the_wire, command, lambda client, address, port: workload.wrk(
        client, address, port, "small", held.seconds, close=close), "requests/s of 612 B, 32 connections")


def memcached(held, name):
    return held.ratio(name, held.over_the_wire, workload.memcached, lambda client, address, port: float(client.run(
        [held.sockets_program, "memcached", address, port, held.seconds, 32]).stdout), "gets/s, 32 connections")


def tasks():
    return [
        task("apps", "ratio.redis_tap", "redis over TAP", lambda held, name: redis(held, name, held.over_the_wire, 1)),
        task("apps", "ratio.nginx_tap", "nginx over TAP, connections kept", lambda held, name: nginx(held, name, False)),
        task("apps", "ratio.nginx_close_tap", "nginx over TAP, a connection per request", lambda held, name: nginx(held, name, True)),
        task("apps", "ratio.memcached_tap", "memcached over TAP", memcached),
        task("apps", "ratio.redis_same_host", "redis on one netd", redis_same_host, 110, 12),
    ]
