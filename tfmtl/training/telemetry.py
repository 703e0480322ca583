"""What gates and task gradients do in training, at the end of every epoch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfmtl.data.encoded_log import EncodedLog
from tfmtl.data.pipeline import evaluation_dataset
from tfmtl.graph import GraphBundle
from tfmtl.layers.node_states import STATES
from tfmtl.layers.recording import Recording
from tfmtl.training.validation_metrics import whole_graph_states

# Share of a uniform gate's weight below which an expert counts as dead.
DEAD_SHARE = 0.01


class Telemetry(keras.callbacks.Callback):
    """Adds what gates and task gradients do on validation rows to the logs of an epoch.

    For every softmax gate over at least two experts, whatever the model, means over the rows:

    - `telemetry/gate/<gate>/load_<expert>`: the gate's weight on the expert. A gate's loads sum to
      1; experts that it does not see have none.
    - `telemetry/gate/<gate>/entropy`: H(g) / log E over its E experts, 1 where it weighs them
      alike, 0 where it picks one.

    With at least one gate:

    - `telemetry/dead_experts`: Number of experts whose load is below 1 % of 1 / E in the mean over
      the gates that see them.

    For the tasks' losses before they are weighted, with respect to the shared representation x:
    the row's features from the embedding that tasks share and, with a graph, the states of its
    user and item. x is `[n, D]` over all rows observed, where gradients with respect to tables
    would be as large as the tables; a task's gradient is 0 on rows on which it is undefined.

    - `telemetry/gradient_norm/<task>`: Root mean square over the rows of the task's loss of the
      norm of the gradient of a row's loss.
    - `telemetry/gradient_cosine/<task>/<task>`: Cosine of two tasks' gradients: 1 where they pull
      rows the same way, below 0 where they are at odds. NaN where one of them is 0.

    A model that shares no representation (SingleTask without a graph) has no gradients to compare,
    one without gates no loads. The model is called as in validation and neither its weights nor
    the states of random generators change. An epoch's cost is a pass over the rows, one backward
    pass for each task down to x and, with a graph, the states of the whole graph.

    Args:
        encoded: Encoded validation rows.
        bundle: The graph, for a model that uses one.
        batch_size: Rows that the model is called on at one time; results do not depend on it.
        max_rows: Most rows observed; of more, so many at equal distances in the log.

    Raises:
        ValueError: If `max_rows` is not positive.

    Example:
        >>> from tfmtl.models import build_model
        >>> from tfmtl.training import Experiment, prepare_data
        >>> data = prepare_data(Experiment.from_yaml(
        ...     "{dataset: {name: simulator, options: {num_users: 20, num_items: 10, "
        ...     "num_rows: 400}}, model: {name: mmoe}}"))
        >>> model = build_model("mmoe", data.loaded.log.schema, data.encoder, {"num_experts": 2})
        >>> telemetry = Telemetry(data.validation)
        >>> telemetry.set_model(model)
        >>> values = telemetry.observe()
        >>> [name for name in values if name.startswith("telemetry/gate/click_gate")]
        ['telemetry/gate/click_gate/load_0', 'telemetry/gate/click_gate/load_1',
         'telemetry/gate/click_gate/entropy']
    """

    def __init__(
        self,
        encoded: EncodedLog,
        *,
        bundle: GraphBundle | None = None,
        batch_size: int = 8192,
        max_rows: int = 8192,
    ):
        super().__init__()
        if max_rows < 1:
            raise ValueError(f"expected max_rows of at least 1; received {max_rows}")
        self.encoded = _spread(encoded, max_rows)
        self.bundle = bundle
        self.batch_size = batch_size

    def set_model(self, model: keras.Model) -> None:
        """Binds the model to observe."""
        super().set_model(model)
        self._traced: Any = None
        self._experts: dict[str, tuple[str, ...]] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Observes the model and extends `logs`."""
        del epoch
        if logs is not None:
            logs.update(self.observe())

    def observe(self) -> dict[str, float]:
        """The numbers of the bound model as it is now, by their names."""
        states = whole_graph_states(self.model, self.bundle)
        dataset = evaluation_dataset(self.encoded, batch_size=self.batch_size)
        if states is not None:
            dataset = dataset.map(lambda features, *rest: (states(features), *rest))
        if self._traced is None:
            self._traced = tf.function(self._sums).get_concrete_function(*dataset.element_spec)
        batches = [
            tf.nest.map_structure(lambda value: value.numpy().astype(np.float64), sums)
            for sums in (self._traced(*batch) for batch in dataset)
        ]
        sums = tf.nest.map_structure(lambda *values: sum(values), *batches)
        return {**self._gate_values(sums["gates"]), **self._gradient_values(sums)}

    def _sums(self, features: Mapping, labels: Mapping, sample_weights: Mapping) -> dict[str, Any]:
        """Sums over a batch, from which the values of all rows follow."""
        model = self.model
        with (
            tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape,
            Recording(tape) as recording,
        ):
            states = tf.nest.flatten(features.get(STATES, {}))
            for state in states:
                tape.watch(state)
            logits = model.loss_inputs(features, training=False)
            means = model.task_losses(logits, labels, sample_weights)
            rows = {
                name: tf.reduce_sum(weights)
                for name, weights in model.loss_rows(labels, sample_weights).items()
            }
            # Of sums, which do not shrink with the batch, half precision keeps the gradients.
            losses = {name: means[name] * rows[name] for name in model.task_names}
        gates: dict[str, dict[str, tf.Tensor]] = {}
        for gate in recording.gates:
            name = gate.name.removeprefix(f"{model.name}/")
            self._experts[name] = gate.experts
            gates[name] = {
                # A router may decide several times per row.
                "decisions": tf.cast(tf.shape(gate.weights)[0], tf.float32),
                "loads": tf.reduce_sum(gate.weights, axis=0),
                "entropy": -tf.reduce_sum(tf.math.xlogy(gate.weights, gate.weights)),
            }
        sums: dict[str, Any] = {"gates": gates}
        shared = [*recording.shared, *states]
        if shared:
            flat = [
                _flat(tape.gradient(losses[name], shared, unconnected_gradients="zero"))
                for name in model.task_names
            ]
            gradients = tf.stack(flat)
            sums["products"] = tf.matmul(gradients, gradients, transpose_b=True)
            sums["rows"] = tf.stack([rows[name] for name in model.task_names])
        return sums

    def _gate_values(self, sums: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, float]:
        values: dict[str, float] = {}
        shares: dict[tuple[str, str], list[float]] = {}
        for name, experts in self._experts.items():
            bank = name.rpartition("/")[0]
            rows = sums[name]["decisions"]
            for expert, load in zip(experts, sums[name]["loads"] / rows, strict=True):
                values[f"telemetry/gate/{name}/load_{expert}"] = float(load)
                shares.setdefault((bank, expert), []).append(float(load) * len(experts))
            entropy = sums[name]["entropy"] / rows / math.log(len(experts))
            values[f"telemetry/gate/{name}/entropy"] = float(entropy)
        if shares:
            dead = [np.mean(own) < DEAD_SHARE for own in shares.values()]
            values["telemetry/dead_experts"] = float(sum(dead))
        return values

    def _gradient_values(self, sums: Mapping[str, Any]) -> dict[str, float]:
        if "products" not in sums:
            return {}
        values: dict[str, float] = {}
        names, products = self.model.task_names, sums["products"]
        for number, name in enumerate(names):
            mean_square = _ratio(products[number, number], sums["rows"][number])
            values[f"telemetry/gradient_norm/{name}"] = math.sqrt(mean_square)
        for one, other in itertools.combinations(range(len(names)), 2):
            norms = math.sqrt(products[one, one]) * math.sqrt(products[other, other])
            pair = f"telemetry/gradient_cosine/{names[one]}/{names[other]}"
            values[pair] = _ratio(products[one, other], norms)
        return values


def _flat(gradients: list[tf.Tensor]) -> tf.Tensor:
    return tf.concat([tf.reshape(tf.cast(part, tf.float32), [-1]) for part in gradients], axis=0)


def _ratio(value: float, divisor: float) -> float:
    return float(value / divisor) if divisor > 0 else math.nan


def _spread(encoded: EncodedLog, max_rows: int) -> EncodedLog:
    """`encoded`, or of a longer log `max_rows` rows at equal distances."""
    if len(encoded) <= max_rows:
        return encoded
    rows = np.linspace(0, len(encoded) - 1, max_rows).astype(np.intp)

    def taken(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: column.take(rows, axis=0) for name, column in columns.items()}

    return replace(
        encoded,
        features=taken(encoded.features),
        labels=taken(encoded.labels),
        weights=taken(encoded.weights),
        times=None if encoded.times is None else encoded.times.take(rows),
        groups=None if encoded.groups is None else encoded.groups.take(rows),
    )
