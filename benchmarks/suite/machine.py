"""The machine that the figures belong to, and how well two of its CPUs run at once."""

import datetime
import glob
import json
import os
import pathlib
import platform
import socket
import statistics
import subprocess
import time

from netdtools import paths


def read(path, otherwise=None):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return otherwise


def output(*command):
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def field(text, name):
    """The value of the first line "name : value"."""
    for line in (text or "").splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return None


def caches():
    found = {}
    for index in sorted(glob.glob("/sys/devices/system/cpu/cpu0/cache/index*")):
        kind = {"Data": "d", "Instruction": "i"}.get(read(f"{index}/type"), "")
        found[f"L{read(f'{index}/level')}{kind}"] = read(f"{index}/size")
    return found


def compiler():
    """The one of the build that is measured, if meson still says."""
    try:
        known = json.loads((paths.build_dir() / "meson-info" / "intro-compilers.json").read_text())
        return known["host"]["cpp"]["full_version"]
    except (OSError, ValueError, KeyError):
        return (output("c++", "--version") or "").partition("\n")[0] or None


def build():
    """The kind of build that is measured and what makes code fast or slow, as meson knows it; None if it does not say."""
    try:
        known = json.loads((paths.build_dir() / "meson-info" / "intro-buildoptions.json").read_text())
    except (OSError, ValueError):
        return None
    value = {one["name"]: one["value"] for one in known}
    told = [f"{name}={str(value[name]).lower()}" for name in ("buildtype", "optimization", "b_lto", "b_ndebug", "b_pgo", "b_sanitize") if name in value]
    return ", ".join([paths.build_dir().name, *told])


def guided():
    """What a profile was made of, and of which commit, where one guided the build that is measured (tools/build pgo)."""
    return read(paths.build_dir() / "trained") or False


def congestion_default():
    """What a socket gets here without a route that says otherwise. The suite's own routes all say CUBIC."""
    with socket.socket() as probe:
        return probe.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def described():
    cpuinfo = read("/proc/cpuinfo", "")
    memory_kib = int((field(read("/proc/meminfo"), "MemTotal") or "0 kB").split()[0])
    flags = (field(cpuinfo, "flags") or "").split()
    vendor = read("/sys/class/dmi/id/sys_vendor")
    commit = output("git", "-C", str(paths.TOP), "rev-parse", "--short", "HEAD")
    changed = output("git", "-C", str(paths.TOP), "status", "--porcelain", "--untracked-files=no")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": field(cpuinfo, "model name") or platform.processor() or platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "cores": int(field(cpuinfo, "cpu cores") or 0) or None,
        "caches": caches(),
        "memory_gib": round(memory_kib / 2**20, 1),
        "kernel": platform.release(),
        "system": (field_of_os_release("PRETTY_NAME") or platform.system()),
        "virtualised": "hypervisor" in flags,
        "vendor": vendor,
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "mitigations": {os.path.basename(path): read(path) for path in sorted(glob.glob("/sys/devices/system/cpu/vulnerabilities/*"))
                        if read(path) != "Not affected"},
        "congestion_default": congestion_default(),
        "build": build(),
        "compiler": compiler(),
        "guided_by_profile": guided(),
        "commit": commit and commit + (" and changes" if changed else ""),
        "load_before": round(os.getloadavg()[0], 2),
    }


def field_of_os_release(name):
    for line in (read("/etc/os-release") or "").splitlines():
        key, _, value = line.partition("=")
        if key == name:
            return value.strip('"')
    return None


def spin(cpus, seconds):
    """Turns of an empty loop that pinned processes make in that time, all at once; their sum."""
    begin = time.monotonic() + 0.05
    pipes = []
    for cpu in cpus:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.sched_setaffinity(0, {cpu})
                while time.monotonic() < begin:
                    pass
                turns = 0
                while turns == 0 or time.monotonic() < begin + seconds:
                    for _ in range(1000):
                        turns += 1
                os.write(writing, str(turns).encode())
            finally:
                os._exit(0)
        os.close(writing)
        pipes.append((pid, reading))
    total = 0
    for pid, reading in pipes:
        with os.fdopen(reading) as answer:
            total += int(answer.read() or 0)
        os.waitpid(pid, 0)
    return total


def spin_ratio(quick):
    """Two pinned processes that share nothing : one. (median, low, high), or None on one CPU.

    What this machine makes of two busy CPUs at best, now: ratio.smp_* are read beside it.
    """
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        return None
    rounds, seconds = (3, 0.05) if quick else (5, 0.2)
    ratios = []
    for turn in range(rounds):
        both = spin(cpus, seconds)
        alone = spin([cpus[turn % 2]], seconds)
        ratios.append(both / alone)
    return round(statistics.median(ratios), 3), round(min(ratios), 3), round(max(ratios), 3)
