"""Group scale: bench-scale counts, in the simulator, what an operation costs on 1 to 64 CPUs; and a stated extrapolation
of the measured scaling by the universal scalability law."""

import scaling_law

from .figures import plot
from .plan import Task
from .printed import printing

COUNTED = {"messages": "messages to other CPUs per operation", "line_transfers": "cache lines that change CPU per operation",
           "forwarded": "packets forwarded to their owner per operation"}


def counted(objects):
    found = []
    for field, label in COUNTED.items():
        lines = {}
        for one in objects:
            if "cpus" in one and field in one:
                lines.setdefault(one["name"], []).append([one["cpus"], one[field]])
        if lines:
            found.append(plot(f"scale.{field}", label.capitalize(), "CPUs", label, {name: sorted(points) for name, points in lines.items()},
                              "bench-scale: counted exactly, simulated CPUs", log_x=True))
    return found


def extrapolated(ratio):
    """The law through the one measured point, ratio on 2 CPUs, up to 64. Two numbers of CPUs fix one constant: all that
    is lost is taken for waiting (sigma), as scaling_law.py assumes."""
    law = scaling_law.fit([(1, 1.0), (2, ratio)])
    return [[cpus, scaling_law.throughput(cpus, law["rate"], law["sigma"], law["kappa"])] for cpus in (1, 2, 4, 8, 16, 32, 64)]


def model(bench):
    series = []
    for kind in ("conn", "rr", "udp"):
        measured = bench.found.get(f"ratio.smp_{kind}")
        if measured and measured["value"]:
            lines = {"measured": [[1, 1.0], [2, measured["value"], measured["low"], measured["high"]]],
                     "extrapolated, kappa assumed 0": extrapolated(measured["value"])}
            series.append(plot(f"scale.model_{kind}", f"Extrapolation, not a measurement: {kind}", "CPUs", "throughput relative to 1 CPU", lines,
                               "universal scalability law through the measured ratio of 2 CPUs to 1", log_x=True, log_y=True))
    return [], series


def tasks():
    return [printing("scale", "costs per operation on 1 to 64 simulated CPUs", "bench-scale", (), 90, 12, "scale.", counted),
            Task("scale", "extrapolation from this run's ratio.smp_*", (), 1, 1, model, "scale.model")]
