"""The fit of the universal scalability law on made-up measurements, whose constants are known."""

import json
import pathlib
import random
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import scaling_law  # noqa: E402


def made_up(rate, sigma, kappa, cpus, noise=0.0, seed=1):
    dice = random.Random(seed)
    return [(n, scaling_law.throughput(n, rate, sigma, kappa) * (1 + dice.uniform(-noise, noise))) for n in cpus]


class Fit(unittest.TestCase):
    def test_exact_points_give_their_constants(self):
        for sigma, kappa in ((0.05, 0.001), (0.2, 0.0), (0.0, 0.01), (0.0, 0.0)):
            with self.subTest(sigma=sigma, kappa=kappa):
                law = scaling_law.fit(made_up(1e6, sigma, kappa, (1, 2, 3, 4, 8)))
                self.assertAlmostEqual(law["rate"], 1e6, delta=1)
                self.assertAlmostEqual(law["sigma"], sigma, places=6)
                self.assertAlmostEqual(law["kappa"], kappa, places=6)
                self.assertLess(law["error"], 1e-6)
                self.assertEqual(law["assumed"], [])

    def test_noise_moves_them_little(self):
        law = scaling_law.fit(made_up(1e6, 0.08, 0.002, range(1, 33), noise=0.02))
        self.assertAlmostEqual(law["sigma"], 0.08, delta=0.02)
        self.assertAlmostEqual(law["kappa"], 0.002, delta=0.0005)
        self.assertLess(law["error"], 0.03)

    def test_what_scales_better_than_linearly_has_no_negative_constants(self):
        law = scaling_law.fit([(1, 100.0), (2, 210.0), (4, 430.0)])
        self.assertEqual((law["sigma"], law["kappa"]), (0.0, 0.0))
        self.assertGreater(law["error"], 0.01)

    def test_two_points_fix_two_unknowns_and_say_so(self):
        law = scaling_law.fit(made_up(5e5, 0.1, 0.0, (1, 2)))
        self.assertAlmostEqual(law["sigma"], 0.1, places=6)
        self.assertEqual(law["assumed"], ["kappa"])
        self.assertEqual(scaling_law.fit([(1, 3.0)])["assumed"], ["kappa", "sigma"])

    def test_nonsense_is_refused(self):
        for points in ([], [(0, 1.0)], [(1, 0.0)]):
            with self.assertRaises(ValueError):
                scaling_law.fit(points)


class Program(unittest.TestCase):
    def test_lines_of_bench_stack_become_laws(self):
        lines = []
        for n, x in made_up(1000, 0.1, 0.01, (1, 2, 4)):
            for wrong in (1.0, 1.0, 7.0):  # the median ignores one bad round
                lines.append(json.dumps({"workload": "conn", "on": "embed", "discipline": "message", "cpus": n, "value": x * wrong}))
        lines.append(json.dumps({"workload": "rr", "on": "embed", "discipline": "giant", "cpus": 1, "value": 5.0}))
        out = subprocess.run([sys.executable, ROOT / "benchmarks/scaling_law.py", "--cpus-max", "16"], input="\n".join(lines),
                             capture_output=True, text=True, check=True)
        conn, rr = (json.loads(line) for line in out.stdout.splitlines())
        self.assertEqual((conn["name"], conn["discipline"], rr["name"]), ("usl.conn", "message", "usl.rr"))
        self.assertAlmostEqual(conn["sigma"], 0.1, places=6)
        self.assertAlmostEqual(conn["kappa"], 0.01, places=6)
        self.assertEqual([n for n, _ in conn["extrapolation"]["points"]], [8, 16])
        self.assertIn("not measured", conn["extrapolation"]["label"])


if __name__ == "__main__":
    unittest.main()
