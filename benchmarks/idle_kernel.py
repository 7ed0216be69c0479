#!/usr/bin/env python3
"""Kernel memory of an idle TCP socket: how much the slab caches grow by for each one that is held on the loopback.

Needs root, for /proc/slabinfo. Whatever else the machine does moves the same caches, so connections are opened and closed
several times and a cache counts only if it grew in every round by about an object a socket; its figure is the median.
"""

import argparse
import json
import resource
import socket
import statistics
import sys

SLABINFO = "/proc/slabinfo"
OBJECTS_LEAST, OBJECTS_MOST = 0.4, 4.0  # a socket's share of a cache that is its; some caches hold one per pair
WARM = 200


def fail(text):
    print(f"bench-idle-kernel: {text}", file=sys.stderr)
    sys.exit(1)


def slabs():
    """Name -> (objects in use, bytes of one)."""
    with open(SLABINFO) as file:
        rows = [line.split() for line in file.readlines()[2:]]
    return {one[0]: (int(one[1]), int(one[3])) for one in rows}


class Connections:
    """Pairs of connected sockets, each with a request and an answer behind it."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.held = []

    def open(self, count):
        for _ in range(count):
            client = socket.create_connection(self.listener.getsockname())
            server, _ = self.listener.accept()
            for one, other in ((client, server), (server, client)):
                one.sendall(b"x" * 64)
                assert other.recv(64) == b"x" * 64
            self.held += [client, server]

    def close(self):
        for one in self.held:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset: no TIME-WAIT stays behind
            one.close()
        self.held.clear()


def growth(count, rounds):
    """Cache -> bytes a socket, a list with one element per round."""
    connections = Connections()
    connections.open(WARM)
    connections.close()
    grown = {}
    for _ in range(rounds):
        before = slabs()
        connections.open(count)
        after = slabs()
        connections.close()
        for cache, (objects, size) in after.items():
            grown.setdefault(cache, []).append(((objects - before.get(cache, (0, 0))[0]) / (2 * count), size))
    return {cache: [each * size for each, size in found] for cache, found in grown.items()
            if len(found) == rounds and all(OBJECTS_LEAST <= each <= OBJECTS_MOST for each, _ in found)}


def main():
    parser = argparse.ArgumentParser(prog="bench-idle-kernel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer connections and rounds")
    parser.add_argument("--connections", type=int, help="held at a time (4000; quick: 1000)")
    parser.add_argument("--rounds", type=int, help="(5; quick: 3)")
    options = parser.parse_args()
    count = options.connections or (1000 if options.quick else 4000)
    rounds = options.rounds or (3 if options.quick else 5)
    if count < 1 or rounds < 1:
        parser.error("--connections and --rounds are positive")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and 2 * count + 100 > hard:
        fail(f"{count} connections need {2 * count + 100} descriptors, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        found = growth(count, rounds)
    except OSError as error:
        fail(f"{error.filename or 'sockets'}: {error.strerror}" + ("; root is needed" if error.filename == SLABINFO else ""))
    if "TCP" not in found:
        fail(f"no slab cache of TCP sockets grew in {SLABINFO}")
    totals = [sum(values) for values in zip(*found.values())]
    caches = {cache: round(statistics.median(values)) for cache, values in found.items()}
    why = "slab of a TCP socket on loopback: " + ", ".join(f"{name} {size}" for name, size in sorted(caches.items(), key=lambda one: -one[1]))
    print(json.dumps({"name": "bytes.idle_kernel", "value": round(statistics.median(totals), 1), "unit": "bytes", "low": round(min(totals), 1),
                      "high": round(max(totals), 1), "runs": rounds, "why": why, "connections": count}))


if __name__ == "__main__":
    main()
