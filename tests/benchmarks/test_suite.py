#!/usr/bin/env python3
"""The harness of benchmarks/: statistics, the plan and its time, completeness of the rows, shape of the JSON, the report."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(TOP / "benchmarks"), str(TOP / "tools")]
from suite import figures, group_scale, machine, plan, report, rows  # noqa: E402

FAKES = ("bench-stack", "bench-lwip", "bench-micro", "bench-flood", "bench-scale")


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
        self.assertLessEqual(sum(plan.BUDGET.values()), 44 * 60)
        self.assertLessEqual(sum(plan.BUDGET_QUICK.values()), 290)
        self.assertEqual(set(plan.BUDGET), set(plan.BUDGET_QUICK))

    def test_names_choose_groups_rows_and_beginnings(self):
        tasks = [self.task(None), self.task(None, ("ratio.ring64",), "micro")]
        self.assertEqual(plan.chosen(tasks, ["micro"])[0], tasks[1:])
        self.assertEqual(plan.chosen(tasks, ["ratio.smp"])[0], tasks[:1])
        self.assertEqual(plan.chosen(tasks, []), (tasks, []))
        self.assertEqual(plan.chosen(tasks, ["nothing"])[1], ["nothing"])


class Scale(unittest.TestCase):
    def test_the_law_goes_through_what_was_measured(self):
        line = dict(group_scale.extrapolated(1.6))
        self.assertAlmostEqual(line[1], 1.0)
        self.assertAlmostEqual(line[2], 1.6)


class Machine(unittest.TestCase):
    def test_it_is_described(self):
        about = machine.described()
        for key in ("cpu", "cpus", "caches", "kernel", "memory_gib", "virtualised", "governor", "compiler", "commit", "mitigations",
                    "congestion_default", "date"):
            self.assertIn(key, about)
        self.assertGreater(about["cpus"], 0)
        json.dumps(about)

    def test_spinning_counts(self):
        self.assertGreater(machine.spin([min(os.sched_getaffinity(0))], 0.01), 0)


class Run(unittest.TestCase):
    """benchmarks/run with programs that print made-up figures."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="netd-suite-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        (cls.folder / "benchmarks").mkdir()
        for name in FAKES:
            (cls.folder / "benchmarks" / name).symlink_to(HERE / "fake_program.sh")
        cls.result = cls.run_suite("--quick", "micro", "ratio.smp", "ratio.message_vs_g", "ratio.message_vs_s", "ratio.conn_lwip",
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

    def test_ratios_of_two_sides(self):
        self.assertEqual(self.by_name["ratio.smp_conn"]["value"], 2.0)
        self.assertIn("2 messages", self.by_name["ratio.smp_conn"]["why"])
        self.assertIn("bare spinning", self.by_name["ratio.smp_conn"]["why"])
        self.assertEqual(self.by_name["ratio.conn_lwip"]["value"], 2.5)

    def test_the_smallest_workload_and_the_best_lock(self):
        giant = self.by_name["ratio.message_vs_giant"]
        self.assertEqual((giant["value"], giant["workload"]), (rows.rounded(2000 / 4400), "udp"))
        self.assertIn("giant spin", giant["why"])

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
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            self.skipTest("python3-matplotlib is not there")
        page = report.page(self.result)
        self.assertIn("ratio.smp_conn", page)
        self.assertGreaterEqual(page.count("<svg"), 4)
        self.assertNotRegex(page, r'(src|href)="(?!#)')
        for row in self.result["rows"]:
            self.assertIn(row["name"], page)


if __name__ == "__main__":
    unittest.main()
