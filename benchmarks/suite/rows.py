"""The rows of the goals table: group, unit, goal, what is compared; and the shape of a row in the JSON."""

import collections

GROUPS = ("micro", "stack", "compare", "apps", "starve", "scale")
RATIO = "ratio"

# `sign` is ">=" or "<=", or "" where the goal is that the figure is stated.
Goal = collections.namedtuple("Goal", "name group unit sign bound compares")

GOALS = [
    Goal("ratio.ring64", "micro", RATIO, ">=", 1.5, "64 B messages through the CPU x CPU ring : boost's spsc_queue, batches of 16"),
    Goal("ratio.call_rtt", "micro", RATIO, "<=", 1.6, "message call between two awake CPUs and back : a cache line there and back"),
    Goal("ratio.smp_conn", "stack", RATIO, ">=", 1.9, "connections per second, 2 CPUs : 1"),
    Goal("ratio.smp_rr", "stack", RATIO, ">=", 1.9, "requests per second on open connections, 2 CPUs : 1"),
    Goal("ratio.smp_udp", "stack", RATIO, ">=", 1.9, "datagram requests per second, 2 CPUs : 1"),
    Goal("ratio.message_vs_giant", "stack", RATIO, ">=", 1.7, "messages : one lock, 2 CPUs, the smallest of 4 workloads"),
    Goal("ratio.message_vs_striped", "stack", RATIO, ">=", 1.0, "messages : striped locks, 2 CPUs, the smallest of 4 workloads"),
    Goal("ratio.inline_vs_message", "stack", RATIO, "", None, "inline : messages, 2 CPUs, the smallest of 4 workloads"),
    Goal("ratio.message_vs_inline_up", "stack", RATIO, ">=", 0.9, "messages : inline on one CPU, 1,000 concurrent operations"),
    Goal("ratio.conn_stack", "stack", RATIO, ">=", 10, "connections per second and core : kernel loopback"),
    Goal("ratio.conn_lwip", "stack", RATIO, ">=", 3, "connections per second and core : lwIP"),
    Goal("ratio.rr_lwip", "stack", RATIO, ">=", 3, "requests per second and core : lwIP"),
    Goal("ratio.bulk_lwip", "stack", RATIO, ">=", 4, "bytes per second and core, MSS 1460 : lwIP"),
    Goal("steady.locks", "stack", "per packet", "<=", 0, "locks on an established flow"),
    Goal("steady.atomics", "stack", "per packet", "<=", 0, "locked instructions on lines that other protocol threads write"),
    Goal("steady.remote", "stack", "per packet", "<=", 0, "messages to other CPUs on an established flow"),
    Goal("steady.allocs", "stack", "per packet", "<=", 0, "allocations on an established flow"),
    Goal("steady.app_atomics", "stack", "per socket and batch", "<=", 1, "exchanges of the application's doorbell"),
    Goal("ratio.bulk_tap_send", "compare", RATIO, ">=", 1.0, "iperf3 on netd over TAP to the kernel : kernel over veth"),
    Goal("ratio.bulk_tap_recv", "compare", RATIO, ">=", 1.0, "iperf3 to netd over TAP from the kernel : kernel over veth"),
    Goal("ratio.bulk_same_host", "compare", RATIO, ">=", 2.0, "iperf3 between two programs on one netd : kernel loopback"),
    Goal("ratio.pingpong_same_host_poll", "compare", RATIO, ">=", 8, "64 B ping-pong, both ends spinning : kernel loopback"),
    Goal("ratio.pingpong_same_host_block", "compare", RATIO, ">=", 1.8, "64 B ping-pong, both ends blocking : kernel loopback"),
    Goal("ratio.pingpong_tap", "compare", RATIO, ">=", 1.2, "64 B ping-pong over TAP : kernel over veth"),
    Goal("bytes.idle_connection", "compare", "bytes", "<=", 512, "memory of an established, idle connection"),
    Goal("bytes.idle_kernel", "compare", "bytes", "", None, "kernel memory that an idle connection's descriptor costs"),
    Goal("conns.max", "compare", "connections", ">=", 10_000_000, "idle connections held in 24 GiB"),
    Goal("goodput.cells_at_least_kernel", "compare", "fraction", ">=", 1.0, "cells of loss x RTT x flows not behind the kernel's CUBIC"),
    Goal("goodput.cells_ahead", "compare", "fraction", ">=", 0.5, "cells of loss x RTT x flows at 1.1 times the kernel or more"),
    Goal("cpu.idle", "compare", "fraction of a CPU", "<=", 0.001, "netd's CPU time with 10,000 idle connections"),
    Goal("ratio.redis_tap", "apps", RATIO, ">=", 1.0, "redis on netd over TAP : kernel over veth"),
    Goal("ratio.nginx_tap", "apps", RATIO, ">=", 1.0, "nginx, connections kept, on netd over TAP : kernel over veth"),
    Goal("ratio.nginx_close_tap", "apps", RATIO, ">=", 1.3, "nginx, a connection per request, over TAP : kernel over veth"),
    Goal("ratio.memcached_tap", "apps", RATIO, ">=", 1.0, "memcached on netd over TAP : kernel over veth"),
    Goal("ratio.redis_same_host", "apps", RATIO, ">=", 2.0, "redis and its client on one netd : kernel loopback, the smaller of -P 1 and -P 16"),
    Goal("late.timer_p999", "starve", "us", "<=", 1000, "lateness of timers while packets flood at 4 times the capacity"),
    Goal("late.control_p999", "starve", "us", "<=", 10000, "latency of control calls while packets flood at 4 times the capacity"),
]
BY_NAME = {goal.name: goal for goal in GOALS}


def row(name, unit, value=None, low=None, high=None, runs=0, why="", **more):
    return {"name": name, "value": value, "unit": unit, "low": low, "high": high, "runs": runs, "why": why, **more}


def absent(name, why):
    """A goal's row without a value."""
    return row(name, BY_NAME[name].unit, why=why)


def judged(one, group):
    """The row with its group and, where it is a goal's, that goal and whether the value reaches it (None: no value)."""
    goal = BY_NAME.get(one["name"])
    reached = None
    if goal and goal.sign and one["value"] is not None:
        reached = one["value"] >= goal.bound if goal.sign == ">=" else one["value"] <= goal.bound
    return {**one, "group": goal.group if goal else group, "goal": f"{goal.sign} {goal.bound:,g}" if goal and goal.sign else None,
            "reached": reached}


def rounded(value):
    return float(f"{value:.4g}")


def shown(one):
    """A row as a line for the terminal."""
    if one["value"] is None:
        return f"{one['name']:32} {'-':>10}  {one['why']}"
    spread = f"({one['low']:g} to {one['high']:g}, {one['runs']} runs)" if one.get("runs") else ""
    goal = BY_NAME.get(one["name"])
    aim = f"  goal {goal.sign} {goal.bound:,g}" if goal and goal.sign else ""
    return f"{one['name']:32} {one['value']:10.4g}  {one['unit']} {spread}{aim}"
