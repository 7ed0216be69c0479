#!/usr/bin/env python3
"""Fits the universal scalability law (N. Gunther) to measured throughput and extrapolates, saying that it does.

X(n) = rate * n / (1 + sigma (n - 1) + kappa n (n - 1)): sigma is the share of the work for which CPUs wait on each other, kappa what
keeping them coherent costs per pair of CPUs. n / X is linear in three unknowns, so least squares needs no iteration; errors are taken
relative to the measured value. Negative constants have no meaning here and are held at 0. Two numbers of CPUs fix two unknowns only:
kappa is then assumed to be 0 and said to be assumed; one number fixes the rate alone.

    bench-stack conn --cpus 0; bench-stack conn --cpus 0,1; ...  | scaling_law.py [--cpus-max N] [FILE...]
"""

import argparse
import fileinput
import itertools
import json
import statistics
import sys

KEY = ("workload", "on", "discipline", "lock", "concurrency")
EXTRAPOLATED = "extrapolated by the universal scalability law, not measured"


def throughput(n, rate, sigma, kappa):
    return rate * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


def solve(matrix, right):
    """Gaussian elimination with pivoting; None when the equations do not determine the unknowns."""
    rows = [list(row) + [value] for row, value in zip(matrix, right)]
    size = len(rows)
    for column in range(size):
        pivot = max(range(column, size), key=lambda r: abs(rows[r][column]))
        if abs(rows[pivot][column]) < 1e-12 * max(1.0, max(abs(v) for v in rows[pivot])):
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for r in range(size):
            if r != column:
                factor = rows[r][column] / rows[column][column]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[column])]
    return [rows[i][size] / rows[i][i] for i in range(size)]


def least_squares(points, terms):
    """Coefficients of n / X over `terms`, and the sum of squared relative errors."""
    lines = [([term(n) * x / n for term in terms], 1.0) for n, x in points]
    matrix = [[sum(row[i] * row[j] for row, _ in lines) for j in range(len(terms))] for i in range(len(terms))]
    right = [sum(row[i] * one for row, one in lines) for i in range(len(terms))]
    found = solve(matrix, right)
    if found is None:
        return None
    error = sum((sum(c * v for c, v in zip(found, row)) - one) ** 2 for row, one in lines)
    return found, error


def fit(points):
    """points: [(cpus, throughput), ...]. Returns {"rate", "sigma", "kappa", "error", "assumed"}; `assumed` names what
    the points do not determine; `error` is the root mean square of the relative errors."""
    counts = {n for n, _ in points}
    if not counts or any(n < 1 or x <= 0 for n, x in points):
        raise ValueError("the law needs positive numbers of CPUs and throughputs")
    candidates = {"sigma": lambda n: n - 1, "kappa": lambda n: n * (n - 1)}
    assumed = [name for name, needed in (("kappa", 3), ("sigma", 2)) if len(counts) < needed]
    free = [name for name in candidates if name not in assumed]
    best = None
    for used in itertools.chain.from_iterable(itertools.combinations(free, k) for k in range(len(free) + 1)):
        result = least_squares(points, [lambda n: 1.0, *(candidates[name] for name in used)])
        if result is None or min(result[0]) < 0 or result[0][0] <= 0:
            continue
        (base, *rest), error = result
        # With more terms the error never grows, so among fits that make sense the one with most terms stays.
        if best is None or error <= best["error"]:
            best = {"rate": 1 / base, "sigma": 0.0, "kappa": 0.0, "error": error, "assumed": assumed}
            best.update({name: value / base for name, value in zip(used, rest)})
    best["error"] = (best["error"] / len(points)) ** 0.5
    return best


def describe(key, points, cpus_max):
    law = fit(points)
    measured_max = max(n for n, _ in points)
    further, n = [], 1
    while n <= cpus_max:
        if n > measured_max:
            further.append([n, throughput(n, law["rate"], law["sigma"], law["kappa"])])
        n *= 2
    return {"name": "usl." + str(key.get("workload", "")), **key, **law, "measured": [list(p) for p in sorted(points)],
            "extrapolation": {"label": EXTRAPOLATED, "points": further}}


def groups(lines):
    """Medians by number of CPUs, for everything else that tells measurements apart."""
    found = {}
    for line in lines:
        line = line.strip()
        if not line:
            continue
        one = json.loads(line)
        if "cpus" in one and "value" in one and "workload" in one:
            key = tuple((k, one[k]) for k in KEY if k in one)
            found.setdefault(key, {}).setdefault(int(one["cpus"]), []).append(float(one["value"]))
    return [(dict(key), [(n, statistics.median(values)) for n, values in by_cpus.items()]) for key, by_cpus in found.items()]


def main():
    parser = argparse.ArgumentParser(description="Fits the universal scalability law to JSON lines of bench-stack.")
    parser.add_argument("--cpus-max", type=int, default=64, help="extrapolate to this many CPUs")
    parser.add_argument("files", nargs="*", metavar="FILE", help="standard input when none is given")
    options = parser.parse_args()
    with fileinput.input(options.files or ("-",)) as lines:
        for key, points in groups(lines):
            print(json.dumps(describe(key, points, options.cpus_max)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
