"""One invocation of bench-stack or bench-lwip, and what its counters say. A Side is a command line that is run again
and again, in turn with the others; it keeps what it printed."""

import concurrent.futures
import os
import statistics

from netdtools import paths
from netdtools.namespace import Namespace
from netdtools.process import ToolError, run

from . import programs
from .figures import Unavailable, number

CPUS_ONE, CPUS_TWO = "0", "0,1"
TOLD = ("context_switches", "messages", "doorbells", "lock", "batch", "line_transfers", "forwarded")  # beginnings of counters


class Side:
    """`per_core`: the value is divided by the CPUs it used."""

    def __init__(self, program, arguments, seconds, prefix=(), per_core=False):
        self.program, self.arguments, self.seconds = program, [*map(str, arguments), "--seconds", f"{seconds:g}"], seconds
        self.prefix, self.per_core, self.results = prefix, per_core, []

    def __call__(self):
        one = programs.one(self.program, self.arguments, self.prefix, timeout=self.seconds * 4 + 30)
        if self.per_core:
            one = {**one, "value": one["value"] / max(1, one.get("cpus", 1))}
        self.results.append(one)
        return one["value"]

    def per_operation(self):
        """What the program counted, per operation; medians over the rounds."""
        found = {}
        for one in self.results:
            for counter, count in (one.get("counters") or {}).items():
                if isinstance(count, (int, float)) and one.get("operations") and not counter.endswith("_max"):
                    found.setdefault(counter, []).append(count / one["operations"])
        return {counter: statistics.median(values) for counter, values in found.items()}

    def told(self):
        """Its median, and per operation the counters that explain it, as far as the program counts them."""
        if not self.results:
            return "nothing"
        counters = self.per_operation()
        unit = self.results[0].get("unit", "")
        of, many = ("MB", 1e6) if unit == "B/s" else ("operation", 1) # bytes are what bulk counts
        parts = [f"{value * many:.3g} {name.replace('_', ' ')}" for name, value in counters.items() if value and name.startswith(TOLD)]
        rate = f"{number(statistics.median(one['value'] for one in self.results))} {unit}".strip()
        return rate + (f" ({', '.join(parts)} per {of})" if parts else "")


class AtOnce:
    """Invocations at the same time, which share the machine and nothing else. The value is their sum."""

    def __init__(self, *sides):
        self.sides = sides

    def __call__(self):
        with concurrent.futures.ThreadPoolExecutor(len(self.sides)) as pool:
            return sum(pool.map(lambda side: side(), self.sides))

    def told(self):
        return " and ".join(side.told() for side in self.sides)


def embed(workload, seconds, cpus=CPUS_TWO, discipline="message", lock=None, locks=None, shards=None, concurrency=None, extra=(), per_core=False):
    arguments = [workload, "--on", "embed", "--cpus", cpus]
    arguments += ["--discipline", discipline] if discipline != "message" else []
    arguments += ["--lock", lock] if lock else []
    arguments += ["--locks-per-operation", locks] if locks else []
    arguments += ["--shards", shards] if shards else []
    arguments += ["--concurrency", concurrency] if concurrency else []
    return Side("bench-stack", [*arguments, *extra], seconds, per_core=per_core)


def kernel(bench, workload, seconds, cpus, concurrency=None):
    """The kernel's loopback in a namespace of its own: CUBIC on its routes, TIME-WAITs that nobody else meets."""
    arguments = [workload, "--on", "kernel", "--cpus", cpus, *(["--concurrency", concurrency] if concurrency else [])]
    return Side("bench-stack", arguments, seconds, kernel_namespace(bench).prefix, per_core=True)


def bare(workload, seconds, concurrency):
    """A stack without a protocol, program and stack in one thread: what no stack of sockets can beat here."""
    return Side("bench-bare", [workload, "--concurrency", concurrency], seconds, per_core=True)


LWIP_CALLBACKS = "bench-lwip"
LWIP_THREADED = {"calls under its lock": "bench-lwip-locking", "calls as messages": "bench-lwip-messages"}
LWIP_TUN = "bench-lwip-tun"
LWIP_PROGRAMS = (LWIP_CALLBACKS, *LWIP_THREADED.values(), LWIP_TUN)


def fetch_lwip():
    """Gets lwIP's sources if they are not there. What went wrong, which the rows then say; None if all is well."""
    if os.environ.get("NETD_BUILD") or (paths.TOP / "build" / "lwip" / "source" / "src").is_dir():
        return None
    try:
        run([paths.TOP / "benchmarks" / "lwip" / "fetch"], timeout=300)
        return None
    except ToolError as error:
        why = f"lwIP's sources could not be fetched: {str(error).strip().splitlines()[-1]}"
        programs.REASONS.update(dict.fromkeys(LWIP_PROGRAMS, why))
        return why


def lwip(workload, seconds, cpu=0, concurrency=None, extra=()):
    """Its callbacks, both ends in one thread."""
    arguments = [workload, "--cpu", cpu, *(["--concurrency", concurrency] if concurrency else []), *extra]
    return Side(LWIP_CALLBACKS, arguments, seconds, per_core=True)


def lwip_threaded(program, workload, seconds, cpus, concurrency, extra=()):
    """Application threads apart from its own; `cpus`: of that and of the one worker."""
    stack, _, worker = cpus.partition(",")
    arguments = [workload, "--stack-cpu", stack, "--cpus", worker or stack, "--concurrency", concurrency, *extra]
    return Side(program, arguments, seconds, per_core=True)


def kernel_namespace(bench):
    if "kernel namespace" not in bench.shared:
        try:
            space = Namespace.create(f"nd-bench-{os.getpid()}")
        except ToolError as error:
            raise Unavailable(f"no namespace for the kernel's side: {str(error).splitlines()[0]}") from None
        bench.cleanup.callback(space.delete)
        bench.shared["kernel namespace"] = space
    return bench.shared["kernel namespace"]
