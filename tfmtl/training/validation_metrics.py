"""Exact validation metrics at the end of every epoch."""

from __future__ import annotations

import math
from typing import Any

import tf_keras as keras

from tfmtl.data.encoded_log import EncodedLog
from tfmtl.graph import GraphBundle
from tfmtl.layers.attention_convolution import Edges
from tfmtl.layers.node_states import NodeStates
from tfmtl.metrics import TaskMetrics, task_metrics
from tfmtl.models.multi_task_model import MultiTaskModel
from tfmtl.models.prediction import predict_log


def whole_graph_states(model: MultiTaskModel, bundle: GraphBundle | None) -> NodeStates | None:
    """States of all nodes of `bundle` under `model`; None for a model without a graph.

    Args:
        model: Any model of the package.
        bundle: The graph it was trained on.

    Returns:
        Node states, or None when the model uses no graph.

    Raises:
        ValueError: If the model uses a graph and there is none.

    Example:
        >>> from tfmtl.models import SharedBottom
        >>> from tfmtl.data.input_spec import InputSpec
        >>> from tfmtl.schema import Task
        >>> age = InputSpec("age", "categorical", "context", 8, 1)
        >>> whole_graph_states(SharedBottom([Task(name="click")], [age]), None) is None
        True
    """
    if not model.uses_graph:
        return None
    if bundle is None:
        raise ValueError(
            f"{type(model).__name__} uses a graph and received none: build one from the training "
            "rows with build_graph_bundle"
        )
    edge_sets = {name: Edges.from_csr(csr) for name, csr in bundle.edge_sets.items()}
    return model.compute_node_states(edge_sets)


def evaluate_log(
    model: MultiTaskModel,
    encoded: EncodedLog,
    *,
    bundle: GraphBundle | None = None,
    batch_size: int = 8192,
) -> dict[str, TaskMetrics]:
    """Exact metrics per task of a model on an encoded log.

    Args:
        model: Any model of the package.
        encoded: The log to score.
        bundle: The graph, for a model that uses one; its states are computed first.
        batch_size: Rows scored at one time.

    Returns:
        `TaskMetrics` per task.

    Example:
        >>> from tfmtl.training import Experiment, prepare_data
        >>> from tfmtl.models import build_model
        >>> data = prepare_data(Experiment.from_yaml(
        ...     "{dataset: {name: simulator, options: {num_users: 20, num_items: 10, "
        ...     "num_rows: 400}}, model: {name: mmoe}}"))
        >>> model = build_model("mmoe", data.loaded.log.schema, data.encoder, {})
        >>> evaluate_log(model, data.test)["click"].rows == len(data.test)
        True
    """
    states = whole_graph_states(model, bundle)
    probabilities = predict_log(model, encoded, node_states=states, batch_size=batch_size)
    return {
        name: task_metrics(
            encoded.labels[name], probabilities[name], encoded.weights[name], encoded.groups
        )
        for name in model.task_names
    }


def mean_metric(metrics: dict[str, TaskMetrics], name: str) -> float:
    """Mean over tasks of one metric; tasks on which it is undefined are left out.

    Args:
        metrics: `TaskMetrics` per task.
        name: `auc`, `gauc`, `log_loss` or `ece`.

    Returns:
        The mean, or NaN when no task defines the metric.

    Example:
        >>> from tfmtl.metrics import task_metrics
        >>> import numpy as np
        >>> click = task_metrics(np.array([0.0, 1.0]), np.array([0.2, 0.8]))
        >>> mean_metric({"click": click}, "auc")
        1.0
    """
    values = [getattr(metric, name) for metric in metrics.values()]
    defined = [value for value in values if value is not None and not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


class ValidationMetrics(keras.callbacks.Callback):
    """Adds `val_<task>_<metric>` and their means `val_<metric>` to the logs of an epoch.

    Metrics are exact, and a graph model is scored with the whole graph's states, so validation
    draws no samples.

    Args:
        encoded: Encoded validation rows.
        bundle: The graph, for a model that uses one.
        batch_size: Rows scored at one time.

    Example:
        >>> callback = ValidationMetrics(None)
        >>> callback.names
        ('auc', 'gauc', 'log_loss', 'ece')
    """

    names = ("auc", "gauc", "log_loss", "ece")

    def __init__(
        self, encoded: EncodedLog, *, bundle: GraphBundle | None = None, batch_size: int = 8192
    ):
        super().__init__()
        self.encoded = encoded
        self.bundle = bundle
        self.batch_size = batch_size

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Scores the validation rows and extends `logs`."""
        del epoch
        logs = {} if logs is None else logs
        metrics = evaluate_log(
            self.model, self.encoded, bundle=self.bundle, batch_size=self.batch_size
        )
        for name in self.names:
            for task, values in metrics.items():
                value = getattr(values, name)
                logs[f"val_{task}_{name}"] = math.nan if value is None else float(value)
            logs[f"val_{name}"] = mean_metric(metrics, name)
