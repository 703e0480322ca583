"""All tasks from one trunk against a call for each, and against few tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.side_by_side import milliseconds, ratio, side_by_side
from tfmtl.data import InputSpec
from tfmtl.models import GRec
from tfmtl.schema import Task

FEW, MANY = 2, 64
HISTORY, ITEMS = 50, 10_000
INPUTS = (
    InputSpec("user_id", "categorical", "user", 10_000, 1, "user_id"),
    InputSpec("item_id", "categorical", "item", ITEMS, 1, "item_id"),
    InputSpec("history", "list", "context", ITEMS, HISTORY, "item_id", list_kind="sequence"),
    InputSpec("event", "list", "context", 6, HISTORY, "event", list_kind="sequence"),
    InputSpec("title", "list", "item", 5_000, 8, "title", list_kind="text"),
    InputSpec("hour", "categorical", "context", 25, 1, "hour"),
    InputSpec("statistics", "numeric", "context", 0, 12),
)


def _model(tasks: int, task_token: str) -> GRec:
    model = GRec(
        [Task(name=f"task_{number}") for number in range(tasks)],
        INPUTS,
        dim=128,
        task_token=task_token,
    )
    model.build_weights()
    return model


def _batch(rows: int) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(0)
    batch: dict[str, np.ndarray] = {}
    for spec in INPUTS:
        shape = [rows, spec.width] if spec.width > 1 else [rows]
        if spec.kind == "numeric":
            batch[spec.name] = rng.normal(size=shape).astype(np.float32)
        else:
            batch[spec.name] = rng.integers(1, spec.vocabulary_size, shape, np.int32)
    return {name: tf.constant(values) for name, values in batch.items()}


def measure(rows: int, task_token: str, rounds: int) -> dict[str, Any]:
    """Speed-up and growth of `predict_all_tasks`, and what one more task adds.

    Args:
        rows: Rows of a request.
        task_token: See `GRec`.
        rounds: Rounds that are timed.
    """
    batch = _batch(rows)
    models = {tasks: _model(tasks, task_token) for tasks in (FEW, MANY)}
    all_tasks = {tasks: tf.function(model.predict_all_tasks) for tasks, model in models.items()}
    one_task = tf.function(models[MANY].predict_sentences)
    sentences = [tf.fill([rows, 1], number) for number in range(MANY)]
    times = side_by_side(
        {
            f"{MANY}_tasks": lambda: all_tasks[MANY](batch).numpy(),
            f"{FEW}_tasks": lambda: all_tasks[FEW](batch).numpy(),
            f"{MANY}_calls": lambda: [one_task(batch, own).numpy() for own in sentences],
        },
        rounds=rounds,
    )
    return {
        "rows": rows,
        "task_token": task_token,
        "milliseconds": milliseconds(times),
        "all_tasks_speedup": ratio(times, f"{MANY}_calls", f"{MANY}_tasks"),
        "task_growth": ratio(times, f"{MANY}_tasks", f"{FEW}_tasks") * FEW / MANY,
    }


def parameters_per_task() -> dict[str, int]:
    """Weights that one more task adds, and how many rows of the sentence's tables they are."""
    before = _model(MANY, "late")
    after = before.add_task(Task(name="another"))
    added = _count(after) - _count(before)
    return {"params_per_task": added, "width_of_a_word": before.sentence.tables[0].shape[1]}


def _count(model: GRec) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
