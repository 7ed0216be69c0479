#!/usr/bin/env python3
"""Builds netd and runs its tests, stage by stage; every stage is timed and every failure shows the end of its log.

  --quick   the release build with the lint and quick suites
  default   also the slow and system suites, the quick suite under ASan and UBSan, a minute of all fuzzers, the suite 'tsan'
            under TSan, and the code outside tests/ by clang, whose warnings are others
Skipped are tests that need what this machine does not give (a TUN device, namespaces); each says what.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from netdtools import process  # noqa: E402
from netdtools.paths import TOP  # noqa: E402

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
OUTCOMES = {"OK": PASSED, "EXPECTEDFAIL": PASSED, "SKIP": SKIPPED}  # everything else is a failure
LOG_LINES = 40


class Check:
    """What ran so far: stages with their seconds, and every test with its outcome."""

    def __init__(self):
        self.started = time.monotonic()
        self.stages = []
        self.failures = []
        self.counts = {PASSED: 0, FAILED: 0, SKIPPED: 0}

    def count(self, name, outcome, log="", lines=LOG_LINES):
        self.counts[outcome] += 1
        if outcome == FAILED:
            self.failures.append((name, [line.strip()[:160] for line in log.splitlines() if line.strip()][-3:]))
            print(f"\n--- FAILED: {name}, the end of its log:\n{process.tail_of(log, lines)}---", flush=True)
        elif outcome == SKIPPED:
            print(f"skipped: {name}: {process.tail_of(log, 1).strip() or 'no reason given'}", flush=True)

    def stage(self, title, action):
        print(f"\n=== {title} (at {time.monotonic() - self.started:.0f} s)", flush=True)
        before, started = dict(self.counts), time.monotonic()
        action()
        changed = ", ".join(f"{self.counts[key] - before[key]} {key}" for key in self.counts)
        self.stages.append((title, time.monotonic() - started, changed))

    def build(self, kind, *targets):
        """One build, which counts as one test. True if it worked."""
        lines = []
        with subprocess.Popen([TOP / "tools" / "build", kind, *targets], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) as build:
            for line in build.stdout:
                lines.append(line)
                if sys.stdout.isatty():
                    print(f"\r\033[K{line.rstrip()[:100]}", end="", flush=True)
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)
        self.count(f"build of {kind}", FAILED if build.returncode else PASSED, "".join(lines), 80)
        return build.returncode == 0

    def test(self, kind, suites, environment=None, multiplier=1):
        """The suites of one build that stands; each test counts."""
        build, logbase = TOP / "build" / kind, "check-" + "-".join(suites)
        results = build / "meson-logs" / f"{logbase}.json"
        results.unlink(missing_ok=True)
        command = ["meson", "test", "-C", build, "--no-rebuild", "--logbase", logbase, "--timeout-multiplier", str(multiplier)]
        for suite in suites:
            command += ["--suite", suite]
        if kind in ("asan", "tsan") and shutil.which("setarch"):
            # The sanitizers of g++ 12 reserve addresses that newer kernels' randomised mappings may take.
            if subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode == 0:
                command += ["--wrapper", "setarch -R"]
                results = results.with_stem(f"{logbase}-setarch")  # meson names the log after the wrapper too
                results.unlink(missing_ok=True)
        done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
        if not results.exists():
            if tests_of(kind, suites):
                self.count(f"{kind}: suites {' '.join(suites)}", FAILED, f"meson test gave exit code {done.returncode} and no results")
            else:
                print(f"no tests in {' '.join(suites)}")
            return
        for line in results.read_text().splitlines():
            test = json.loads(line)
            log = (test.get("stdout") or "") + (test.get("stderr") or "")
            outcome = OUTCOMES.get(test["result"], FAILED)
            if outcome == FAILED:
                log += f"\n[{test['result']}]"
            self.count(f"{kind}: {test['name']}", outcome, log)

    def finish(self):
        print("\n=== stages")
        for title, seconds, changed in self.stages:
            print(f"{seconds:7.1f} s  {title}: {changed}")
        for name, last_lines in self.failures:  # again: a log that is cut to its end still says why
            print("\n  | ".join([f"FAILED: {name}", *last_lines]))
        print(f"{self.counts[PASSED]} passed, {self.counts[FAILED]} failed, {self.counts[SKIPPED]} skipped")
        return 1 if self.counts[FAILED] else 0


def introspect(kind, what):
    done = process.run(["meson", "introspect", TOP / "build" / kind, what])
    return json.loads(done.stdout)


def tests_of(kind, suites):
    wanted = {f"netd:{suite}" for suite in suites}
    return [test for test in introspect(kind, "--tests") if wanted & set(test["suite"])]


def targets_of_tests(kind, suites):
    """The meson targets that the suites' tests run, in the form that meson compile takes."""
    needed = {identity for test in tests_of(kind, suites) for identity in test["depends"]}
    return [spell(target) for target in introspect(kind, "--targets") if target["id"] in needed]


def targets_outside_tests(kind):
    shipped = []
    for target in introspect(kind, "--targets"):
        folder = pathlib.Path(target["defined_in"]).relative_to(TOP).parts[0]
        if folder not in ("tests", "benchmarks") and target["build_by_default"]:
            shipped.append(spell(target))
    return shipped


def spell(target):
    folder = pathlib.Path(target["defined_in"]).parent.relative_to(TOP)
    return f"./{folder / target['name']}"


def sanitized(check, kind, suites, environment, multiplier):
    """Builds only what the suites run, then runs them."""
    if check.build(kind, "--configure-only"):
        targets = targets_of_tests(kind, suites)
        if targets and check.build(kind, *targets):
            check.test(kind, suites, environment, multiplier)


def fuzz(check):
    done = subprocess.run([TOP / "tools" / "fuzz", "--seconds", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace")
    check.count("a minute of all fuzzers", FAILED if done.returncode else PASSED, done.stdout, 80)


def clang(check):
    if check.build("clang", "--configure-only"):
        check.build("clang", *targets_outside_tests("clang"))


def main():
    parser = argparse.ArgumentParser(prog="./check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the release build with the lint and quick suites")
    options = parser.parse_args()

    check = Check()
    check.stage("build of release", lambda: check.build("release"))
    if check.counts[FAILED]:
        return check.finish()
    check.stage("lint and quick tests", lambda: check.test("release", ["lint", "quick"]))
    if not options.quick:
        check.stage("slow tests", lambda: check.test("release", ["slow"]))
        check.stage("system tests", lambda: check.test("release", ["system"], {"NETD_BUILD": str(TOP / "build" / "release")}))
        asan = {"ASAN_OPTIONS": "abort_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1",
                "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
        check.stage("quick tests under ASan and UBSan", lambda: sanitized(check, "asan", ["quick"], asan, 4))
        check.stage("fuzzers", lambda: fuzz(check))
        tsan = {"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1"}
        check.stage("multi-threaded tests under TSan", lambda: sanitized(check, "tsan", ["tsan"], tsan, 8))
        check.stage("clang", lambda: clang(check))
    return check.finish()


if __name__ == "__main__":
    sys.exit(main())
