"""Steps on a table of many ids against steps on one of few."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.side_by_side import milliseconds, ratio, side_by_side
from benchmarks.training import contestants

FEATURE = ("c0",)
FEWER = 100
STEPS = 5


def measure(rows: int, largest: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per step with a table of `largest` ids and of a hundredth of them."""
    sizes = {"large": largest, "small": largest // FEWER}
    runs = {}
    for name, ids in sizes.items():
        examples = contestants.batches(STEPS, rows, ids, categorical=FEATURE)
        data = contestants.dataset(contestants.package_batches(examples))
        model = contestants.package(ids, categorical=FEATURE)
        runs[name] = partial(model.fit, data, verbose=0)
    times = side_by_side(runs, rounds=rounds)
    return {
        "rows": rows,
        "ids": sizes,
        "dim": contestants.DIM,
        "milliseconds": {name: own / STEPS for name, own in milliseconds(times).items()},
        "growth": ratio(times, "large", "small"),
    }
