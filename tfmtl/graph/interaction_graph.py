"""Builds the bipartite graph of who interacted with what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tfmtl.data.interaction_log import TrainingLog, require_training
from tfmtl.graph.csr import CSR
from tfmtl.graph.interaction_stores import MAX_TASKS, behavior_dtype, interaction_stores
from tfmtl.schema import ITEM_ID, USER_ID, Schema

if TYPE_CHECKING:
    from tfmtl.data.feature_encoder import FeatureEncoder

Edges = Literal["positive", "all"]


def behavior_bits(log: TrainingLog, behaviors: tuple[str, ...]) -> np.ndarray:
    """Bit t is set where task t of the schema is positive; undefined is not positive."""
    dtype = behavior_dtype(len(log.schema.task_names))
    bits = np.zeros(len(log), dtype)
    for position, task in enumerate(log.schema.task_names):
        if task in behaviors:
            bits |= (log.labels(task) == 1).astype(dtype) << dtype.type(position)
    return bits


def _whole_times(log: TrainingLog) -> np.ndarray:
    """Times of the rows as integers."""
    times = log.times
    if times is None:
        raise ValueError(
            "keep_times=True needs a log with times; its schema names no time column: name one, "
            "or leave keep_times out"
        )
    if np.issubdtype(times.dtype, np.integer):
        return times
    whole = times.astype(np.int64)
    if not np.array_equal(whole, times):
        fraction = times[whole != times][0]
        raise ValueError(
            f"expected whole numbers as times of edges; received {fraction}: give the log's times "
            "in a finer unit, such as milliseconds"
        )
    return whole


def checked_behaviors(schema: Schema, behaviors: tuple[str, ...] | None) -> tuple[str, ...]:
    """The behaviours to record: all tasks unless some are named."""
    if not schema.has_ids:
        raise ValueError("a graph needs user and item columns; the schema names none")
    if len(schema.task_names) > MAX_TASKS:
        raise ValueError(
            f"a graph records at most {MAX_TASKS} tasks; the schema has {len(schema.task_names)}"
        )
    if behaviors is None:
        return schema.task_names
    unknown = [name for name in behaviors if name not in schema.task_names]
    if unknown or not behaviors:
        raise ValueError(
            f"expected behaviors among the tasks {list(schema.task_names)}; "
            f"received {list(behaviors)}"
        )
    return behaviors


def build_interaction_graph(
    train: TrainingLog,
    encoder: FeatureEncoder,
    *,
    history: TrainingLog | None = None,
    include_training_rows: bool = True,
    edges: Edges = "positive",
    behaviors: tuple[str, ...] | None = None,
    keep_times: bool = False,
) -> tuple[CSR, CSR]:
    """Links users and items that met in the training rows.

    An edge joins u and i where any behaviour of a row (u, i) is positive. Rows of the same pair
    are merged and their behaviours or-ed. Rows with an unknown user or item (id 0) make no edge.

    With `keep_times` rows are not merged: each is an edge with its own behaviours and time, and
    the edges of a node ascend by time, which a sampler with a time limit needs.

    Args:
        train: The training part of a split.
        encoder: Encoder whose user and item ids number the nodes.
        history: Earlier rows that the model is not trained on; their edges are added.
        include_training_rows: Whether rows of `train` make edges; without them the graph is that
            of `history` alone.
        edges: `positive`, or `all` to keep rows without any positive behaviour as well.
        behaviors: Tasks whose positives count; all tasks when left out.
        keep_times: Whether every row is an edge with its time; times must be whole numbers.

    Returns:
        `item_user` (rows: users) and `user_item` (rows: items), each with `behavior`, in the
        smallest unsigned dtype with a bit per task (`uint8` up to 8): bit t is set where task t of
        the schema was positive, 0 for a pair that was only shown. With `keep_times`, stores in the
        order `time` with `time` as `int32` where that suffices, else `int64`.

    Raises:
        TypeError: If a log is not a training log.
        ValueError: If the schema has no ids, a behaviour is unknown, the logs differ in their
            tasks, there are no rows to take, or times to keep are absent or fractions.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.data.feature_encoder import FeatureEncoder
        >>> from tfmtl.schema import Schema, Task
        >>> rows = {"user_id": [7, 7, 9], "item_id": [3, 5, 5], "click": [1, 0, 1]}
        >>> train = TrainingLog(pa.table(rows), Schema(tasks=[Task(name="click")]))
        >>> item_user, user_item = build_interaction_graph(train, FeatureEncoder.fit(train))
        >>> item_user.degrees.tolist(), item_user.indices.tolist()
        ([0, 1, 1], [1, 2])
    """
    require_training(train, "building a graph")
    if history is not None:
        require_training(history, "building a graph from a history")
    if edges not in get_args(Edges):
        raise ValueError(f"expected edges='positive' or 'all'; received {edges!r}")
    logs = [train] if include_training_rows else []
    logs += [history] if history is not None else []
    if not logs:
        raise ValueError(
            "no rows to build a graph from: give a history or set include_training_rows=True"
        )

    recorded = checked_behaviors(train.schema, behaviors)
    if history is not None and history.schema.task_names != train.schema.task_names:
        raise ValueError(
            f"expected the tasks {list(train.schema.task_names)} in the history as well; received "
            f"{list(history.schema.task_names)}: read both logs with one schema"
        )

    users, items, bits, times = [], [], [], []
    for log in logs:
        log_bits = behavior_bits(log, recorded)
        chosen = log_bits != 0 if edges == "positive" else slice(None)
        users.append(encoder.vocabularies[USER_ID].encode(log.user_ids)[chosen])
        items.append(encoder.vocabularies[ITEM_ID].encode(log.item_ids)[chosen])
        bits.append(log_bits[chosen])
        if keep_times:
            times.append(_whole_times(log)[chosen])
    return interaction_stores(
        np.concatenate(users),
        np.concatenate(items),
        np.concatenate(bits),
        encoder.vocabularies[USER_ID].size,
        encoder.vocabularies[ITEM_ID].size,
        times=np.concatenate(times) if keep_times else None,
    )
