"""Builds the bipartite graph of who interacted with what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tfmtl.data.interaction_log import TrainingLog, require_training
from tfmtl.graph.csr import CSR
from tfmtl.schema import ITEM_ID, USER_ID, Schema

if TYPE_CHECKING:
    from tfmtl.data.feature_encoder import FeatureEncoder

Edges = Literal["positive", "all"]
# Behaviours are the bits of one int32.
_MAX_TASKS = 31


def _behavior_bits(log: TrainingLog, behaviors: tuple[str, ...]) -> np.ndarray:
    """Bit t is set where task t of the schema is positive; undefined is not positive."""
    bits = np.zeros(len(log), np.int32)
    for position, task in enumerate(log.schema.task_names):
        if task in behaviors:
            bits |= (log.labels(task) == 1).astype(np.int32) << position
    return bits


def _check_schema(schema: Schema, behaviors: tuple[str, ...] | None) -> tuple[str, ...]:
    """The behaviours to record: all tasks unless some are named."""
    if not schema.has_ids:
        raise ValueError("a graph needs user and item columns; the schema names none")
    if len(schema.task_names) > _MAX_TASKS:
        raise ValueError(
            f"a graph records at most {_MAX_TASKS} tasks; the schema has {len(schema.task_names)}"
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
) -> tuple[CSR, CSR]:
    """Links users and items that met in the training rows.

    An edge joins u and i where any behaviour of a row (u, i) is positive. Rows of the same pair
    are merged and their behaviours or-ed. Rows with an unknown user or item (id 0) make no edge.

    Args:
        train: The training part of a split.
        encoder: Encoder whose user and item ids number the nodes.
        history: Earlier rows that the model is not trained on; their edges are added.
        include_training_rows: Whether rows of `train` make edges; without them the graph is that
            of `history` alone.
        edges: `positive`, or `all` to keep rows without any positive behaviour as well.
        behaviors: Tasks whose positives count; all tasks when left out.

    Returns:
        `item_user` (rows: users) and `user_item` (rows: items), each with `behavior int32`: bit t
        is set where task t of the schema was positive, 0 for a pair that was only shown.

    Raises:
        TypeError: If a log is not a training log.
        ValueError: If the schema has no ids, a behaviour is unknown, the logs differ in their
            tasks, or there are no rows to take.

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

    recorded = _check_schema(train.schema, behaviors)
    if history is not None and history.schema.task_names != train.schema.task_names:
        raise ValueError(
            f"expected the tasks {list(train.schema.task_names)} in the history as well; received "
            f"{list(history.schema.task_names)}: read both logs with one schema"
        )

    users, items, bits = [], [], []
    for log in logs:
        users.append(encoder.vocabularies[USER_ID].encode(log.user_ids))
        items.append(encoder.vocabularies[ITEM_ID].encode(log.item_ids))
        bits.append(_behavior_bits(log, recorded))
    user, item, bit = (np.concatenate(parts) for parts in (users, items, bits))

    num_users = encoder.vocabularies[USER_ID].size
    num_items = encoder.vocabularies[ITEM_ID].size
    kept = (user > 0) & (item > 0)
    if edges == "positive":
        kept &= bit != 0
    pairs = user[kept].astype(np.int64) * num_items + item[kept]
    order = np.argsort(pairs, kind="stable")
    distinct, starts = np.unique(pairs[order], return_index=True)
    merged = np.bitwise_or.reduceat(bit[kept][order], starts) if distinct.size else bit[:0]
    item_user = CSR.from_edges(
        distinct // num_items, distinct % num_items, num_users, num_items, {"behavior": merged}
    )
    return item_user, item_user.transpose()
