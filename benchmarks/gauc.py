"""Rows per second of `tfmtl.metrics.gauc`, beside one scikit-learn AUC per user.

    python -m benchmarks.gauc
    python -m benchmarks.gauc --rows 2000000 --users 100000 --loop-users 2000

The loop is measured on the rows of the first `--loop-users` users and its rate taken to hold for
all: its cost is per user. The command fails when the two disagree by more than 1e-12 there, when
the vectorised form is below a million rows per second, or when it is less than 20 times as fast.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import sklearn
from sklearn.metrics import roc_auc_score

from tfmtl.metrics import gauc

LEAST_ROWS_PER_SECOND = 1e6
LEAST_RATIO = 20


def loop_gauc(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> float:
    rows_of: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        rows_of.setdefault(group, []).append(row)
    total = weight = 0.0
    for rows in rows_of.values():
        if 0 < labels[rows].sum() < len(rows):
            total += len(rows) * roc_auc_score(labels[rows], scores[rows])
            weight += len(rows)
    return total / weight


def seconds(run: Callable[[], object], repetitions: int) -> list[float]:
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--loop-users", type=int, default=2_000)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    groups = rng.integers(0, options.users, options.rows)
    labels = (rng.random(options.rows) < 0.3).astype(np.float32)
    # Rounded, so that there are ties, as there are among a model's float32 outputs.
    scores = (rng.random(options.rows) + 0.2 * labels).round(3)
    print(
        f"{options.rows:,} rows, {options.users:,} users, {options.repetitions} repetitions; "
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"Python {platform.python_version()}, NumPy {np.__version__}, "
        f"scikit-learn {sklearn.__version__}"
    )
    first = groups < options.loop_users
    part = (labels[first], scores[first], groups[first])
    loop = statistics.mean(seconds(lambda: loop_gauc(*part), 1)) / first.sum()
    slowest = 0.0
    for dtype in ("float32", "float64"):
        typed = scores.astype(dtype)
        times = seconds(lambda typed=typed: gauc(labels, typed, groups), options.repetitions)
        per_row = statistics.median(times) / options.rows
        slowest = max(slowest, per_row)
        print(
            f"tfmtl.metrics.gauc {dtype}: {1 / per_row / 1e6:6.2f} M rows/s "
            f"(median; {statistics.mean(times):.3f} ± {statistics.pstdev(times):.3f} s), "
            f"{loop / per_row:,.0f} times the loop"
        )
    print(f"scikit-learn per user:      {1 / loop / 1e6:6.4f} M rows/s ({first.sum():,} rows)")
    difference = abs(gauc(*part).value - loop_gauc(*part))
    print(f"difference on these rows:   {difference:.1e}")
    passed = (
        difference <= 1e-12
        and 1 / slowest >= LEAST_ROWS_PER_SECOND
        and loop / slowest >= LEAST_RATIO
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
