"""Probabilities of a model for a whole encoded log."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmtl.data.encoded_log import EncodedLog
from tfmtl.data.pipeline import evaluation_dataset
from tfmtl.layers.node_states import NodeStates
from tfmtl.models.multi_task_model import MultiTaskModel


def predict_log(
    model: MultiTaskModel,
    encoded: EncodedLog,
    *,
    node_states: NodeStates | None = None,
    batch_size: int = 8192,
) -> dict[str, np.ndarray]:
    """Probabilities for every row, in the order of the log.

    Args:
        model: Any model of the package.
        encoded: The log to score, encoded by the model's encoder.
        node_states: Graph states for a model that uses a graph.
        batch_size: Rows scored at one time.

    Returns:
        `float32 [n]` per task.

    Raises:
        ValueError: If a graph model comes without node states.

    Example:
        >>> from tfmtl.data import FeatureEncoder
        >>> from tfmtl.datasets import load
        >>> from tfmtl.models import build_model
        >>> loaded = load("simulator", num_users=20, num_items=10, num_rows=400)
        >>> encoder = FeatureEncoder.fit(loaded.split.train)
        >>> model = build_model("mmoe", loaded.log.schema, encoder, {})
        >>> scores = predict_log(model, encoder.encode(loaded.split.test))
        >>> len(scores["click"]) == len(loaded.split.test)
        True
    """
    if model.uses_graph and node_states is None:
        raise ValueError(
            f"{type(model).__name__} uses a graph and received no node states: "
            "pass model.compute_node_states(edge_sets)"
        )
    dataset = evaluation_dataset(encoded, batch_size=batch_size).map(lambda *batch: batch[0])
    if node_states is not None:
        dataset = dataset.map(node_states)
    strategies = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    if not isinstance(
        model.distribute_strategy, (*strategies, tf.distribute.ParameterServerStrategy)
    ):
        return model.predict(dataset, verbose=0)
    # Here and now: Keras would share the rows out among replicas or workers.
    scored = tf.function(model.probabilities, reduce_retracing=True)
    parts = [{name: part.numpy() for name, part in scored(rows).items()} for rows in dataset]
    return {name: np.concatenate([part[name] for part in parts]) for name in model.task_names}
