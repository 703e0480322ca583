"""This package's MMoE against the same one written by hand and DeepCTR's."""

from __future__ import annotations

from functools import partial
from typing import Any

import tf_keras as keras

from benchmarks.side_by_side import milliseconds, ratio, side_by_side
from benchmarks.training import contestants

# Steps of one call of `fit`: enough that its own start does not count.
STEPS = 5
OTHERS = ("by hand", "DeepCTR")


def measure(rows: int, ids: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per step inside `fit`, and how much faster than the faster of the others."""
    examples = contestants.batches(STEPS, rows, ids)
    own = contestants.dataset(contestants.package_batches(examples))
    models = {
        "tfmtl, float32": (contestants.package(ids), own),
        "by hand": (contestants.hand_written(ids), contestants.dataset(examples)),
        "DeepCTR": (
            contestants.deep_ctr(ids),
            contestants.dataset(contestants.column_batches(examples)),
        ),
    }
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        models["tfmtl, bfloat16"] = (contestants.package(ids), own)
    finally:
        keras.mixed_precision.set_global_policy(before)
    times = side_by_side(
        {name: partial(model.fit, data, verbose=0) for name, (model, data) in models.items()},
        rounds=rounds,
    )
    return {
        "rows": rows,
        "ids": ids,
        "weights": {
            name: contestants.trained_weights(model) for name, (model, _) in models.items()
        },
        "milliseconds": {name: own / STEPS for name, own in milliseconds(times).items()},
        "speedup": {
            precision: min(ratio(times, other, f"tfmtl, {precision}") for other in OTHERS)
            for precision in ("float32", "bfloat16")
        },
    }
