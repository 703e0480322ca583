"""A training step and the scoring of 1,000 candidates, over one macro graph.

A process opens one macro graph and is then asked for a round of calls at a time, so that sizes,
each in a process of its own, are measured in turn.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from benchmarks.macro.simulated_log import TASKS
from tfmtl.graph import MacroGraph
from tfmtl.models import MGOE
from tfmtl.training import keep_freed_memory

INFERENCE = "inference"
BATCH, CANDIDATES = 1024, 1000
WARM_UP = 10
# Short rounds, so that all sizes meet the machine in the same state; slow calls end one early.
FEWEST_CALLS, MOST_CALLS, ROUND_SECONDS = 2, 5, 3.0

_opened: list[Callable[[], float]] = []


def open_model(part: str, folder: Path) -> None:
    """Opens a macro graph for `inference`, or for training with the optimiser named `part`."""
    keep_freed_memory()
    graph = MacroGraph.load(folder)
    model = MGOE(TASKS, [], macro_graph=graph)
    model.build_weights()
    call = _scoring(model, graph) if part == INFERENCE else _training(model, graph, part)
    for _ in range(WARM_UP):
        call()
    _opened.append(call)


def round_ms() -> float:
    """Median milliseconds of some calls of the model that this process has open."""
    (call,) = _opened
    seconds: list[float] = []
    while len(seconds) < FEWEST_CALLS or (
        len(seconds) < MOST_CALLS and sum(seconds) < ROUND_SECONDS
    ):
        seconds.append(call())
    return 1000 * statistics.median(seconds)


def peak_gb() -> float:
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _scoring(model: MGOE, graph: MacroGraph) -> Callable[[], float]:
    """Scores candidates of one user; every user and item is as likely, so that rows are cold."""
    random = np.random.default_rng(1)
    probabilities = tf.function(model.probabilities)

    def call() -> float:
        user = np.full(CANDIDATES, random.integers(1, graph.num_users), np.int32)
        items = random.integers(1, graph.num_items, CANDIDATES, np.int32)
        request = {"user_id": tf.constant(user), "item_id": tf.constant(items)}
        return _seconds(lambda: probabilities(request))

    return call


def _training(model: MGOE, graph: MacroGraph, optimizer: str) -> Callable[[], float]:
    """Trains on a batch of random rows; every user and item is as likely."""
    random = np.random.default_rng(2)
    config = {"learning_rate": 1e-3, "is_legacy_optimizer": False}
    model.compile(keras.optimizers.get({"class_name": optimizer, "config": config}))
    step = tf.function(model.train_step)

    def call() -> float:
        ids = {
            name: tf.constant(random.integers(1, count, BATCH, np.int32))
            for name, count in (("user_id", graph.num_users), ("item_id", graph.num_items))
        }
        labels = {
            task.name: tf.constant(random.integers(0, 2, BATCH).astype(np.float32))
            for task in TASKS
        }
        weights = {task.name: tf.ones([BATCH]) for task in TASKS}
        return _seconds(lambda: step((ids, labels, weights)))

    return call


def _seconds(call: Callable[[], dict[str, Any]]) -> float:
    """Until all results are there."""
    start = time.perf_counter()
    for value in call().values():
        value.numpy()
    return time.perf_counter() - start
