"""What the weightings of tasks cost a step, against equal weights."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.side_by_side import milliseconds, ratio, side_by_side
from benchmarks.training import contestants
from tfmtl.objectives.build_weighting import WEIGHTINGS

STEPS = 5
TASKS = 4
IDS = 1000


def measure(rows: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per step of an MMoE of four tasks, and how many times those of equal weights."""
    tasks = [f"task_{number}" for number in range(TASKS)]
    examples = contestants.package_batches(contestants.batches(STEPS, rows, IDS, tasks=tasks))
    data = contestants.dataset(examples)
    models = {name: contestants.package(IDS, tasks=tasks, weighting=name) for name in WEIGHTINGS}
    times = side_by_side(
        {name: partial(model.fit, data, verbose=0) for name, model in models.items()},
        rounds=rounds,
    )
    return {
        "rows": rows,
        "tasks": TASKS,
        "milliseconds": {name: own / STEPS for name, own in milliseconds(times).items()},
        "times_static": {name: ratio(times, name, "static") for name in WEIGHTINGS},
    }
