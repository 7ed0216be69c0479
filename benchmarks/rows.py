"""The rows of the goals table: name, unit and, for a row that nothing measures yet, what it waits for."""

RATIO = "ratio"

# Measured by compare.py, unmodified programs on netd against the same on the kernel.
COMPARED = {
    "ratio.bulk_tap_send": RATIO, "ratio.bulk_tap_recv": RATIO, "ratio.bulk_same_host": RATIO,
    "ratio.pingpong_same_host_block": RATIO, "ratio.pingpong_tap": RATIO, "ratio.redis_tap": RATIO, "ratio.nginx_tap": RATIO,
    "ratio.nginx_close_tap": RATIO, "ratio.memcached_tap": RATIO, "ratio.redis_same_host": RATIO,
    "cpu.idle": "fraction of a CPU",
}

# Printed by the C++ programs of this folder, or not measured yet.
PRINTED = {
    "ratio.pingpong_same_host_poll": (RATIO, "a spinning mode of the client's calls"),
    "ratio.conn_stack": (RATIO, "the kernel's side of bench-stack's connection workload"),
    "ratio.conn_lwip": (RATIO, "the lwIP side of the workloads"),
    "ratio.rr_lwip": (RATIO, "the lwIP side of the workloads"),
    "ratio.bulk_lwip": (RATIO, "the lwIP side of the workloads"),
    "ratio.smp_conn": (RATIO, "bench-stack"),
    "ratio.smp_rr": (RATIO, "bench-stack"),
    "ratio.smp_udp": (RATIO, "bench-stack"),
    "ratio.message_vs_giant": (RATIO, "the disciplines giant and striped"),
    "ratio.message_vs_striped": (RATIO, "the disciplines giant and striped"),
    "ratio.inline_vs_message": (RATIO, "the discipline inline"),
    "ratio.message_vs_inline_up": (RATIO, "the discipline inline"),
    "ratio.call_rtt": (RATIO, "bench-micro"),
    "ratio.ring64": (RATIO, "bench-micro"),
    "steady.locks": ("per packet", "the interposed counters of the steady state"),
    "steady.atomics": ("per packet", "the interposed counters of the steady state"),
    "steady.remote": ("per packet", "the interposed counters of the steady state"),
    "steady.allocs": ("per packet", "the interposed counters of the steady state"),
    "steady.app_atomics": ("per socket and batch", "the interposed counters of the steady state"),
    "bytes.idle_connection": ("bytes", "a memory account of idle connections"),
    "bytes.idle_kernel": ("bytes", "a memory account of idle connections"),
    "conns.max": ("connections", "in-memory clients by the million"),
    "late.timer_p999": ("us", "the flood workload"),
    "late.control_p999": ("us", "the flood workload"),
    "goodput.cells_at_least_kernel": ("fraction", "impairments on the kernel's side of the comparison"),
    "goodput.cells_ahead": ("fraction", "impairments on the kernel's side of the comparison"),
}


def row(name, unit, value=None, low=None, high=None, runs=0, why="", **more):
    return {"name": name, "value": value, "unit": unit, "low": low, "high": high, "runs": runs, "why": why, **more}
