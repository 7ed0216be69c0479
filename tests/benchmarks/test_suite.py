#!/usr/bin/env python3
"""The harness of benchmarks/: statistics, the plan and its time, completeness of the rows, shape of the JSON, the report."""

import contextlib
import html.parser
import json
import os
import pathlib
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(TOP / "benchmarks"), str(TOP / "tools")]
from netdtools.process import run_group  # noqa: E402
from suite import comparison, figures, group_goodput, group_scale, group_stack, group_starve, machine, plan, printed, programs, rows, stack_run  # noqa: E402
from suite.rows import rounded  # noqa: E402

FAKES = ("bench-stack", "bench-bare", "bench-lwip", "bench-lwip-locking", "bench-lwip-messages", "bench-micro", "bench-flood", "bench-scale")


class Figures(unittest.TestCase):
    def test_rounds_alternate_and_turn(self):
        order = []
        sides = {"a": lambda: order.append("a") or 1.0, "b": lambda: order.append("b") or 2.0}
        found = figures.alternate(sides, 3)
        self.assertEqual("".join(order), "abbaab")
        self.assertEqual(found, {"a": [1.0] * 3, "b": [2.0] * 3})

    def test_past_the_deadline_only_the_least_rounds(self):
        found = figures.alternate({"a": lambda: 1.0}, 9, deadline=time.monotonic() - 1, rounds_min=2)
        self.assertEqual(found, {"a": [1.0, 1.0]})

    def test_a_ratio_is_taken_round_by_round(self):
        row = figures.ratio_row("ratio.x", [10, 30, 20], [10, 10, 40], "w")
        self.assertEqual((row["value"], row["low"], row["high"], row["runs"]), (1.0, 0.5, 3.0, 3))

    def test_a_side_that_did_nothing_gives_no_ratio(self):
        with self.assertRaises(figures.Unavailable):
            figures.ratio_row("ratio.x", [1.0], [0.0], "")

    def test_the_best_is_that_of_medians(self):
        self.assertEqual(figures.best({"steady": [5, 5, 5], "lucky": [1, 1, 100]}), "steady")

    def test_rounds_without_the_other_side_are_told_and_half_of_them_are_a_failure(self):
        row = figures.ratio_row("ratio.x", [20, 30, 40], [10, 0, 10], "w")
        self.assertEqual((row["value"], row["runs"]), (3.0, 2))
        self.assertIn("1 of 3 rounds", row["why"])
        with self.assertRaises(figures.Unavailable):
            figures.ratio_row("ratio.x", [20, 20, 20], [10, 0, 0], "w")

    def test_bulk_is_counted_per_megabyte(self):
        side = stack_run.Side("bench-stack", ["bulk"], 1)
        side.results = [{"value": 2e9, "unit": "B/s", "operations": 2_000_000_000, "counters": {"messages": 4000, "rounds": 7}}]
        self.assertEqual(side.told(), "2,000,000,000 B/s (2 messages per MB)")
        side.results = [{"value": 2e3, "unit": "1/s", "operations": 2000, "counters": {"messages": 4000}}]
        self.assertEqual(side.told(), "2,000 1/s (2 messages per operation)")

    def test_best_placements_that_differ_are_told(self):
        held = comparison.Comparison.__new__(comparison.Comparison)
        kernel = {"two CPUs": 9, "one CPU": 5}

        def why(netd):
            held.series = lambda *_: {placement: {"netd": [netd[placement]] * 3, "kernel": [kernel[placement]] * 3} for placement in kernel}
            return held.ratio("ratio.x", [comparison.Side("netd", None, None), comparison.Side("kernel", None, None)], None, None, "w")["why"]

        self.assertIn("not in turn", why({"two CPUs": 1, "one CPU": 2}))
        self.assertNotIn("not in turn", why({"two CPUs": 2, "one CPU": 1}))


class Disciplines(unittest.TestCase):
    """Which lock of a family is compared, by rates that a list says in advance."""

    def side(self, *values):
        came = iter(values)
        return lambda: next(came)

    def test_one_lucky_heat_does_not_choose_the_lock(self):
        sides = {"lucky": self.side(100, 10), "steady": self.side(90, 90), "slow": self.side(50, 50), "slower": self.side(40)}
        name, told = group_stack.fastest(sides, 3)
        self.assertEqual(name, "steady")
        self.assertEqual(told, "lucky 100 and 10, steady 90 and 90, slow 50 and 50, slower 40")

    def test_what_fails_is_not_chosen_and_all_that_fail_are_the_reason(self):
        def fails():
            raise figures.Unavailable("no such lock")

        self.assertEqual(group_stack.fastest({"a": fails, "b": self.side(1)}, 3)[0], "b")
        with self.assertRaisesRegex(figures.Unavailable, "no such lock"):
            group_stack.fastest({"a": fails}, 3)

    def test_locks_have_the_placement_of_messages_too(self):
        """A shard for each CPU: else only messages have a connection's state on the CPU of its thread."""
        shards = {what["shards"] for what in group_stack.families()["striped"].values()}
        self.assertIn(len(group_stack.CPUS_TWO.split(",")), shards)


class Rows(unittest.TestCase):
    def test_goals_reached_and_not(self):
        def reached(name, value):
            return rows.judged(rows.row(name, "", value), "stack")["reached"]

        self.assertTrue(reached("ratio.smp_conn", 1.9))
        self.assertFalse(reached("ratio.smp_conn", 1.89))
        self.assertTrue(reached("ratio.call_rtt", 1.6))
        self.assertFalse(reached("ratio.call_rtt", 1.7))
        self.assertIsNone(reached("ratio.inline_vs_message", 1.2))
        self.assertIsNone(reached("ratio.smp_conn", None))

    def test_the_documentation_and_the_suite_know_the_same_rows(self):
        text = (TOP / "docs" / "performance.md").read_text()
        told = set(re.findall(r"^\| `((?:ratio|steady|bytes|conns|late|goodput|cpu)\.\w+)`", text, re.MULTILINE))
        self.assertEqual(told, set(rows.BY_NAME))


class Plan(unittest.TestCase):
    def task(self, run, names=("ratio.smp_conn",), group="stack"):
        return plan.Task(group, "title", names, 1, 1, run)

    def execute(self, *tasks):
        return plan.execute(list(tasks), plan.Bench(True, contextlib.ExitStack()), tell=lambda text: None)[0]

    def test_a_task_that_cannot_run_leaves_its_rows_with_the_reason(self):
        def run(bench):
            raise figures.Unavailable("no such program")

        row, = self.execute(self.task(run))
        self.assertEqual((row["value"], row["why"], row["unit"]), (None, "no such program", "ratio"))

    def test_a_row_that_a_task_forgets_appears(self):
        row, = self.execute(self.task(lambda bench: ([], [])))
        self.assertIsNone(row["value"])
        self.assertTrue(row["why"])

    def test_time_that_is_used_up_is_told(self):
        task = plan.Task("scale", "long", (), 10, 10**6, lambda bench: self.fail("begun"))
        late = plan.Task("scale", "late", ("ratio.smp_rr",), 10, 10**6, lambda bench: self.fail("begun"))
        found = self.execute(task, late)
        self.assertIn("used up", found[0]["why"])

    def test_the_budgets_keep_the_limits(self):
        self.assertLessEqual(sum(plan.BUDGET.values()), 45 * 60)
        self.assertLessEqual(sum(plan.BUDGET_QUICK.values()) + plan.GRACE_QUICK, 295)
        self.assertEqual(set(plan.BUDGET), set(plan.BUDGET_QUICK))

    def test_fewer_minutes_shrink_every_share(self):
        pace = plan.pace_of(10, False)
        self.assertAlmostEqual(pace * sum(plan.BUDGET.values()), 600)
        self.assertEqual(plan.pace_of(None, False), 1.0)
        seen = []
        task = plan.Task("micro", "t", (), 40, 40, lambda bench: (seen.append(bench.deadline - time.monotonic()), ([], []))[1])
        plan.execute([task], plan.Bench(False, contextlib.ExitStack(), pace=pace), tell=lambda text: None)
        self.assertAlmostEqual(seen[0], 2 * 40 * pace, delta=1)

    def test_names_choose_groups_rows_and_beginnings(self):
        tasks = [self.task(None), self.task(None, ("ratio.ring64",), "micro")]
        self.assertEqual(plan.chosen(tasks, ["micro"])[0], tasks[1:])
        self.assertEqual(plan.chosen(tasks, ["ratio.smp"])[0], tasks[:1])
        self.assertEqual(plan.chosen(tasks, []), (tasks, []))
        self.assertEqual(plan.chosen(tasks, ["nothing"])[1], ["nothing"])

    def test_every_row_that_a_run_prints_can_be_asked_for(self):
        tasks = runpy.run_path(str(TOP / "benchmarks" / "run"))["all_tasks"]()
        newest = max((TOP / "docs" / "results").glob("20??-??-??.json"))
        names = [row["name"] for row in json.loads(newest.read_text())["rows"]]
        self.assertEqual(plan.chosen(tasks, names)[1], [])


def fakes(folder):
    """A build directory with programs that print made-up figures."""
    (folder / "benchmarks").mkdir()
    for name in FAKES:
        (folder / "benchmarks" / name).symlink_to(HERE / "fake_program.sh")
    return folder


def is_gone(pid):
    """Gone, or a zombie that nobody has fetched."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


class Robustness(unittest.TestCase):
    """Programs that hang and crash, each with a program after it."""

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="netd-suite-")))
        self.pid = self.folder / "pid"
        self.enterContext(unittest.mock.patch.dict(os.environ, {
            "NETD_BUILD": str(fakes(self.folder)), "FAKE_HANGS": "hang toeplitz", "FAKE_CRASHES": "crash", "FAKE_PID": str(self.pid)}))

    def execute(self, *tasks, bench=None):
        return plan.execute(list(tasks), bench or plan.Bench(True, contextlib.ExitStack()), tell=lambda text: None)[0]

    def task(self, name, *arguments, seconds=5):
        def run(bench):
            value = programs.one("bench-stack", arguments)["value"]
            return [rows.row(name, "ratio", value, value, value, 1)], []

        return plan.Task("stack", name, (name,), seconds, seconds, run)

    def hung_program_is_gone(self):
        hung = int(self.pid.read_text())
        self.assertTrue(is_gone(hung), f"process {hung} still runs")

    def test_a_program_that_hangs_costs_its_row_alone(self):
        with unittest.mock.patch.object(plan, "GRACE_QUICK", 0.3):
            found = self.execute(self.task("ratio.smp_rr", "hang", seconds=0.1), self.task("ratio.smp_conn", "conn"))
        by_name = {one["name"]: one for one in found}
        self.assertIsNone(by_name["ratio.smp_rr"]["value"])
        self.assertIn("ended after", by_name["ratio.smp_rr"]["why"])
        self.assertEqual(by_name["ratio.smp_conn"]["value"], 1000)
        self.hung_program_is_gone()

    def test_what_a_program_printed_before_it_hung_counts(self):
        (self.folder / "benchmarks" / "bench-idle").write_text(
            "#!/bin/sh\necho '{\"name\": \"conns.max\", \"value\": 7, \"why\": \"made up\"}'\nsleep 1000\n")
        (self.folder / "benchmarks" / "bench-idle").chmod(0o755)
        with unittest.mock.patch.object(printed, "SPARE", 0.2), unittest.mock.patch.object(plan, "GRACE_QUICK", 1.0):
            found = self.execute(printed.printing("compare", "t", "bench-idle", ("bytes.idle_connection", "conns.max"), 0.2, 0.2))
        by_name = {one["name"]: one for one in found}
        self.assertEqual(by_name["conns.max"]["value"], 7)
        self.assertIn("no end within", by_name["bytes.idle_connection"]["why"])

    def test_a_program_that_crashes_costs_its_row_alone(self):
        found = self.execute(self.task("ratio.smp_rr", "crash"), self.task("ratio.smp_conn", "conn"))
        by_name = {one["name"]: one for one in found}
        self.assertIn("exit code -11", by_name["ratio.smp_rr"]["why"])
        self.assertEqual(by_name["ratio.smp_conn"]["value"], 1000)

    def test_an_interrupted_run_tells_what_it_has(self):
        target = self.folder / "out.json"
        with subprocess.Popen([sys.executable, TOP / "benchmarks" / "run", "--quick", "--json", target, "micro"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            try:
                for line in run.stderr:
                    if "steering hash" in line:  # it hangs now
                        break
                while not self.pid.exists() or not self.pid.read_text():
                    time.sleep(0.01)
                run.send_signal(signal.SIGTERM)
                run.communicate(timeout=60)
            finally:
                run.kill()
        self.assertEqual(run.returncode, 130)
        result = json.loads(target.read_text())
        by_name = {one["name"]: one for one in result["rows"]}
        self.assertEqual(by_name["ratio.ring64"]["value"], 1.6)
        self.assertTrue(result["machine"]["interrupted"])
        self.hung_program_is_gone()


class StartedWhileASignalComes(subprocess.Popen):
    """The parent of a vfork runs again only once the child does, and hears of signals before it knows the child's number."""

    last = None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        StartedWhileASignalComes.last = self.pid
        os.kill(os.getpid(), signal.SIGTERM)


class Interruption(unittest.TestCase):
    def test_a_signal_while_a_program_starts_ends_the_program_too(self):
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
        try:
            with unittest.mock.patch.object(subprocess, "Popen", StartedWhileASignalComes), self.assertRaises(SystemExit):
                run_group(["sleep", "1000"], 30)
            self.assertTrue(is_gone(StartedWhileASignalComes.last))
        finally:
            signal.signal(signal.SIGTERM, before)
            with contextlib.suppress(ProcessLookupError):
                os.kill(StartedWhileASignalComes.last, signal.SIGKILL)


class Starve(unittest.TestCase):
    def test_the_worse_of_flood_and_iperf_counts(self):
        flood = rows.row("late.timer_p999", "us", 500, 400, 600, 1, "f")
        beside = [rows.row("late.iperf3_reverse", "us", 1000, 1000, 1000, 1, "b"),
                  rows.row("late.iperf3", "us", None, latest_since_start_us=20000)]
        found = group_starve.worse(flood, beside, None)
        self.assertEqual((found["value"], found["low"], found["high"]), (20000, 400, 20000))
        self.assertIn("iperf3 -R: 1000 us", found["why"])
        self.assertEqual(group_starve.worse(flood, [], "no testbed")["value"], 500)
        self.assertIn("no testbed", group_starve.worse(flood, [], "no testbed")["why"])


class Scale(unittest.TestCase):
    def test_the_law_goes_through_what_was_measured(self):
        line = dict(group_scale.extrapolated(1.6))
        self.assertAlmostEqual(line[1], 1.0)
        self.assertAlmostEqual(line[2], 1.6)


class Machine(unittest.TestCase):
    def test_it_is_described(self):
        about = machine.described()
        for key in ("cpu", "cpus", "caches", "kernel", "memory_gib", "virtualised", "governor", "compiler", "build", "commit", "mitigations",
                    "congestion_default", "date"):
            self.assertIn(key, about)
        self.assertGreater(about["cpus"], 0)
        json.dumps(about)

    def test_the_kind_of_build_is_told(self):
        with tempfile.TemporaryDirectory(prefix="netd-suite-") as folder, unittest.mock.patch.dict(os.environ, {"NETD_BUILD": folder}):
            self.assertIsNone(machine.described()["build"])
            info = pathlib.Path(folder) / "meson-info"
            info.mkdir()
            (info / "intro-buildoptions.json").write_text(json.dumps([{"name": "buildtype", "value": "debug"}, {"name": "b_lto", "value": False},
                                                                      {"name": "b_sanitize", "value": "address"}, {"name": "prefix", "value": "/usr"}]))
            self.assertEqual(machine.described()["build"], f"{pathlib.Path(folder).name}, buildtype=debug, b_lto=false, b_sanitize=address")

    def test_spinning_counts(self):
        self.assertGreater(machine.spin([min(os.sched_getaffinity(0))], 0.01), 0)


class Goodput(unittest.TestCase):
    def test_a_part_of_the_grid_is_no_figure_of_the_whole(self):
        cells = {"goodput.a": 1.2, "goodput.b": 0.999, "goodput.c": 0.9}
        self.assertEqual([row["value"] for row in group_goodput.summed_up(group_goodput.NAMES, cells, 3, "")], [rounded(2 / 3), rounded(1 / 3)])
        self.assertEqual([row["value"] for row in group_goodput.summed_up(group_goodput.NAMES, cells, 4, "")], [None, None])

    def test_other_algorithms_are_counted_against_the_kernel(self):
        cells = [(0, 1000, 1), (0.01, 1000, 1)]
        ours, got, kernel = ({cell: [{"value": value}] for cell, value in zip(cells, values)} for values in ((90, 50), (85, 80), (90, 40)))
        for algorithm in group_goodput.OTHERS:
            names = group_goodput.names_of(algorithm)
            self.assertEqual(names, (f"goodput.{algorithm}.cells_at_least_kernel", f"goodput.{algorithm}.cells_ahead"))
            found = {one["name"]: one for one in group_goodput.other_rows(algorithm, ours, got, kernel, 2)}
            self.assertEqual(found[f"goodput.{algorithm}.loss1.rtt1.flows1"]["value"], 80)
            self.assertEqual([found[name]["value"] for name in names], [0.5, 0.5])
            self.assertIn("behind: loss0.rtt1.flows1 0.944", found[names[0]]["why"])
            part = {one["name"]: one["value"] for one in group_goodput.other_rows(algorithm, ours, got, {cells[0]: kernel[cells[0]]}, 2)}
            self.assertEqual([part[name] for name in names], [None, None])


class Run(unittest.TestCase):
    """benchmarks/run with programs that print made-up figures."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="netd-suite-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        fakes(cls.folder)
        cls.result = cls.run_suite("--quick", "micro", "ratio.smp", "ratio.message_vs_g", "ratio.message_vs_s", "ratio.message_vs_i", "ratio.conn_lwip",
                                   "ratio.bulk_lwip", "steady", "starve", "scale", "conns.max")
        cls.by_name = {row["name"]: row for row in cls.result["rows"]}

    @classmethod
    def run_suite(cls, *arguments, **environment):
        target = cls.folder / "out.json"
        done = subprocess.run([sys.executable, TOP / "benchmarks" / "run", "--json", target, *arguments], capture_output=True, text=True,
                              env={**os.environ, "NETD_BUILD": str(cls.folder), **environment})
        if done.returncode != 0:
            raise AssertionError(done.stdout + done.stderr)
        return json.loads(target.read_text())

    def test_shape(self):
        self.assertEqual(set(self.result), {"rows", "machine", "series"})
        for row in self.result["rows"]:
            self.assertLessEqual({"name", "value", "unit", "low", "high", "runs", "why", "group", "goal", "reached"}, set(row))
            if row["value"] is None:
                self.assertTrue(row["why"], row)
            else:
                self.assertLessEqual(row["low"], row["value"])
                self.assertLessEqual(row["value"], row["high"])
        for one in self.result["series"]:
            self.assertLessEqual({"name", "title", "x", "y", "how", "lines", "group"}, set(one))

    def test_it_says_how_it_was_made(self):
        self.assertRegex(self.result["machine"]["command"], "^benchmarks/run --quick micro ratio.smp .* conns.max$")

    def test_ratios_of_two_sides(self):
        self.assertEqual(self.by_name["ratio.smp_conn"]["value"], 2.0)
        self.assertIn("2 messages", self.by_name["ratio.smp_conn"]["why"])
        self.assertIn("bare spinning", self.by_name["ratio.smp_conn"]["why"])
        self.assertEqual(self.by_name["bound.smp_conn"]["value"], 2.0)
        self.assertIn("two processes", self.by_name["bound.smp_conn"]["why"])
        self.assertEqual(self.by_name["ratio.conn_lwip"]["value"], 2.5)
        self.assertIn("calls", self.by_name["ratio.conn_lwip"]["why"])
        self.assertEqual(self.by_name["ratio.conn_lwip.messages"]["value"], 2.5)
        self.assertEqual(self.by_name["ratio.conn_lwip.callbacks.16"]["value"], 3.0)

    def test_what_a_row_could_be_at_best(self):
        self.assertEqual(self.by_name["bound.conn_lwip"]["value"], 5.0)
        self.assertIn("without a protocol", self.by_name["bound.conn_lwip"]["why"])

    def test_the_smallest_workload_and_the_best_lock(self):
        giant = self.by_name["ratio.message_vs_giant"]
        self.assertEqual((giant["value"], giant["workload"]), (rows.rounded(2000 / 4400), "udp"))
        self.assertIn("giant spin", giant["why"])

    def test_what_each_discipline_does_by_itself_and_with_how_many_locks(self):
        self.assertIn("striped spin, 16 shards", self.by_name["stack.rate.udp.2.striped"]["why"])
        self.assertIn("3 locks", self.by_name["stack.rate.conn.2.striped_3_locks"]["why"])
        self.assertEqual(self.by_name["stack.rate.udp.2.giant"]["value"] / self.by_name["stack.rate.udp.2.message"]["value"], 2.2)
        self.assertEqual(self.by_name["stack.rate.rr.1.inline"]["runs"], 3)

    def test_what_came_before_a_failure_counts(self):
        self.assertEqual(self.by_name["ratio.ring64"]["value"], 1.6)
        self.assertIsNone(self.by_name["ratio.call_rtt"]["value"])
        self.assertIn("broke down", self.by_name["ratio.call_rtt"]["why"])

    def test_a_program_that_is_not_there_is_named(self):
        self.assertIn("bench-steady", self.by_name["steady.locks"]["why"])
        self.assertIn("bench-idle", self.by_name["conns.max"]["why"])

    def test_curves(self):
        series = {one["name"]: one for one in self.result["series"]}
        self.assertEqual(series["starve.livelock"]["lines"], [{"name": "livelock.cpus1", "points": [[1000, 1000], [2000, 900]]}])
        self.assertLessEqual({"micro.wheel", "scale.messages", "scale.model_conn", "stack.disciplines"}, set(series))

    def test_one_build_is_measured(self):
        done = subprocess.run([sys.executable, TOP / "benchmarks" / "run", "--pgo", "micro"], capture_output=True, text=True,
                              env={**os.environ, "NETD_BUILD": str(self.folder)})
        self.assertEqual(done.returncode, 1)
        self.assertIn("NETD_BUILD", done.stderr)

    def test_a_discipline_that_is_missing_costs_only_its_rows(self):
        result = self.run_suite("--quick", "ratio.message_vs_g", FAKE_LACKS="giant")
        by_name = {row["name"]: row for row in result["rows"]}
        self.assertIn("no discipline", by_name["ratio.message_vs_giant"]["why"])
        self.assertEqual(by_name["ratio.message_vs_striped"]["runs"], 3)

    def test_unknown_names_are_refused(self):
        done = subprocess.run([sys.executable, TOP / "benchmarks" / "run", "nonsense"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("nonsense", done.stderr)

    def test_all_rows_have_a_task(self):
        text = "import runpy, sys; sys.argv[:] = ['run']; f = runpy.run_path(sys.path.pop(0) + '/run')['all_tasks']; " \
               "print(*sorted(n for t in f() for n in t.names), sep='\\n')"
        done = subprocess.run([sys.executable, "-c", "import sys; sys.path.insert(0, %r); " % str(TOP / "benchmarks") + text],
                              capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.split(), sorted(rows.BY_NAME))

    def test_report(self):
        saved, page = self.folder / "saved.json", self.folder / "page.html"
        saved.write_text(json.dumps(self.result))
        done = subprocess.run([sys.executable, TOP / "benchmarks" / "report", saved, page], capture_output=True, text=True)
        if "is not installed" in done.stderr:
            self.skipTest("python3-matplotlib is not there")
        self.assertEqual(done.returncode, 0, done.stderr)
        text = page.read_text()
        seen = Page()
        seen.feed(text)
        seen.close()
        self.assertEqual(seen.wrong, [])
        self.assertEqual(seen.open, [])
        self.assertEqual(seen.outside, [], "the page needs something that is not in it")
        self.assertTrue(text.startswith("<!doctype html>"))
        self.assertLessEqual({"html", "head", "title", "body", "h1", "table", "svg"}, seen.tags)
        self.assertGreaterEqual(text.count("<svg"), 4)
        by_name = {cells[0]: cells for cells in seen.rows if len(cells) == 6}
        groups = [one["group"] for one in self.result["rows"]]
        self.assertEqual(groups, sorted(groups, key=rows.GROUPS.index))
        for one in self.result["rows"]:
            value, spread, goal, verdict, why = by_name[one["name"]][1:]
            self.assertEqual(value == "-", one["value"] is None)
            self.assertEqual(bool(spread), one["low"] is not None)
            self.assertEqual(goal, one["goal"] or "")
            self.assertEqual(verdict, {True: "reached", False: "not reached"}.get(
                one["reached"], "stated" if one["value"] is not None else "not measured"))
            self.assertIn(" ".join((one["why"] or "").split()), " ".join(why.split()))


class Page(html.parser.HTMLParser):
    """What a browser would stumble over: tags that do not close, ids that stand twice; and what is outside of the page."""

    VOID = {"meta", "br", "hr", "img", "link", "input"}

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.outside, self.rows, self.tags, self.ids = [], [], [], [], set(), set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.look_at(tag, attributes)
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.look_at(tag, attributes)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, text):
        if "td" in self.open:
            self.rows[-1][-1] += text
        if self.open and self.open[-1] == "style" and re.search(r"@import|url\((?!#)", text):
            self.outside.append(text)

    def look_at(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                if value in self.ids:
                    self.wrong.append(f"id {value} stands twice")
                self.ids.add(value)
            if name in ("src", "href", "xlink:href", "data", "action") and not (value or "").startswith("#") or \
                    re.search(r"url\((?!#)", value or ""):
                self.outside.append(f"{tag} {name}={value}")
        if tag in ("script", "link", "iframe", "object", "base"):
            self.outside.append(tag)


if __name__ == "__main__":
    unittest.main()
