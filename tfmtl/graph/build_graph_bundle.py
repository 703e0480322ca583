"""From training rows to a graph bundle in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tfmtl.data.interaction_log import TrainingLog
from tfmtl.graph.csr import CSR
from tfmtl.graph.graph_bundle import GraphBundle
from tfmtl.graph.interaction_graph import Edges, build_interaction_graph
from tfmtl.graph.similarity_config import SimilarityConfig
from tfmtl.graph.similarity_graph import build_similarity_graph

if TYPE_CHECKING:
    from tfmtl.data.feature_encoder import FeatureEncoder

_DEFAULT_SIMILARITY = SimilarityConfig()


def time_window(logs: list[TrainingLog]) -> list[float] | None:
    """First and last time of the rows, in the log's unit; `None` for a log without times."""
    windows = [[log.times.min(), log.times.max()] for log in logs if log.times is not None]
    if not windows:
        return None
    return [np.min(windows).item(), np.max(windows).item()]


def build_graph_bundle(
    train: TrainingLog,
    encoder: FeatureEncoder,
    *,
    history: TrainingLog | None = None,
    include_training_rows: bool = True,
    edges: Edges = "positive",
    behaviors: tuple[str, ...] | None = None,
    similarity: SimilarityConfig | None = _DEFAULT_SIMILARITY,
    keep_times: bool = False,
    progress: bool = False,
) -> GraphBundle:
    """Builds the interaction graph and both similarity graphs of a training log.

    The manifest records what a reader must know to trust the graph: the time window of its rows,
    the fingerprints of the logs and of the encoder, and every parameter.

    Similarity counts distinct neighbours, and its edges have no time, with `keep_times` or without.

    Args:
        train: The training part of a split.
        encoder: Encoder whose user and item ids number the nodes.
        history: Earlier rows that the model is not trained on.
        include_training_rows: Whether rows of `train` make edges.
        edges: `positive`, or `all` for pairs without any positive behaviour as well.
        behaviors: Tasks whose positives count; all tasks when left out.
        similarity: Parameters of the similarity graphs; `None` leaves them out.
        keep_times: Whether every row is an edge with its time, for a sampler with a time limit.
        progress: Show progress bars.

    Returns:
        The bundle, in memory.

    Raises:
        TypeError: If a log is not a training log.
        ValueError: As `build_interaction_graph` and `build_similarity_graph` do.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.data.feature_encoder import FeatureEncoder
        >>> from tfmtl.schema import Schema, Task
        >>> rows = {"user_id": [7, 7, 9], "item_id": [3, 5, 5], "click": [1, 0, 1]}
        >>> train = TrainingLog(pa.table(rows), Schema(tasks=[Task(name="click")]))
        >>> bundle = build_graph_bundle(train, FeatureEncoder.fit(train))
        >>> {name: store.num_edges for name, store in bundle.edge_sets.items()}
        {'item_user': 2, 'user_item': 2, 'user_user': 0, 'item_item': 0}
    """

    def interactions(keep_times: bool) -> tuple[CSR, CSR]:
        return build_interaction_graph(
            train,
            encoder,
            history=history,
            include_training_rows=include_training_rows,
            edges=edges,
            behaviors=behaviors,
            keep_times=keep_times,
        )

    item_user, user_item = interactions(keep_times)
    edge_sets = {"item_user": item_user, "user_item": user_item}
    if similarity is not None:
        parameters = similarity.model_dump()
        of_users, of_items = interactions(False) if keep_times else (item_user, user_item)
        edge_sets["user_user"] = build_similarity_graph(of_users, **parameters, progress=progress)
        edge_sets["item_item"] = build_similarity_graph(of_items, **parameters, progress=progress)
    logs = ([train] if include_training_rows else []) + ([history] if history is not None else [])
    manifest = {
        "tasks": list(train.schema.task_names),
        "time_window": time_window(logs),
        "split_fingerprint": train.fingerprint(),
        "history_fingerprint": None if history is None else history.fingerprint(),
        "encoder_fingerprint": encoder.fingerprint(),
        "include_training_rows": include_training_rows,
        "edges": edges,
        "behaviors": None if behaviors is None else list(behaviors),
        "similarity": None if similarity is None else similarity.model_dump(),
        "keep_times": keep_times,
    }
    return GraphBundle(edge_sets, item_user.num_rows, item_user.num_columns, manifest)
