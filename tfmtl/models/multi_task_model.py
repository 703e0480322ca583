"""What every multi-task model of the package shares: the loss and how it is reported."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras as keras

from tfmtl.data.input_spec import InputSpec
from tfmtl.graph.graph_bundle import GraphBundle
from tfmtl.graph.macro_graph import MacroGraph
from tfmtl.layers.attention_convolution import Edges
from tfmtl.layers.feature_embedding import FeatureEmbedding
from tfmtl.layers.graph_bottom import GraphBottom
from tfmtl.layers.macro_bottom import MacroBottom
from tfmtl.layers.node_state_bottom import GRAPH_SIDES, NodeStateBottom
from tfmtl.layers.node_states import STATES, NodeStates
from tfmtl.layers.recording import Recording
from tfmtl.objectives.masked_binary_cross_entropy import masked_binary_cross_entropy
from tfmtl.objectives.static_weighting import StaticWeighting
from tfmtl.objectives.uncertainty_weighting import UncertaintyWeighting
from tfmtl.schema import ITEM_ID, USER_ID, Task

Weighting = Literal["static", "uncertainty"]
Batch = tuple[Mapping[str, Any], Mapping[str, tf.Tensor], Mapping[str, tf.Tensor]]

SIDES = ("user", "item", "context")
_REPORTED = ("loss", "regularization_loss", "total_loss")


class MultiTaskModel(tfrs.Model):
    """Base of the models: a subclass maps features to one logit per task in `call`.

    A batch is `(features, labels, sample_weights)`; labels and weights are dicts from task name to
    `float32 [B]`, and a weight of 0 marks a row on which the task is undefined.

    Every loss that `fit` and `evaluate` report is a mean over the whole epoch: `<task>_loss` over
    the rows that it is about (`loss_rows`: those on which the task is defined), `loss` (the
    weighted task losses), `regularization_loss` and `total_loss` over the batches, each counted by
    its rows. `tfrs.Model` reports the last batch's loss and, under `mixed_float16`, trains on an
    unscaled one.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings.
        l2_embedding: Penalty on the batch's embeddings.
        weighting: `static` (the tasks' own weights) or `uncertainty`.
        bottom: What stands under the model beside the features: `{"mgnn": options of GraphBottom}`
            lets it read the graph states of the row's user and item, as the variants "+MGNN" of
            MoGENet's Table 3 do, `{"macro": options of MacroBottom}` what the macro graph says of
            them; both may stand side by side. Nothing by default.
        node_features: Encoded features of all nodes, for a bottom `mgnn`.
        macro_graph: The macro graph, for a bottom `macro`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If there are no inputs for a model without a macro graph, a task's name cannot
            name an output or a reported loss, a bottom is unknown or lacks node features or a
            macro graph, or the macro graph has other tasks.

    Example:
        >>> class Constant(MultiTaskModel):
        ...     def call(self, features, training=None):
        ...         return {"click": tf.zeros_like(features["price"])}
        >>> price = InputSpec("price", "numeric", side="context", vocabulary_size=0, width=1)
        >>> model = Constant([Task(name="click")], [price])
        >>> batch = {"price": tf.ones([2])}, {"click": tf.ones([2])}, {"click": tf.ones([2])}
        >>> round(float(model.compute_loss(batch)), 4)  # -log(1/2)
        0.6931
    """

    needs_graph = False
    needs_macro_graph = False
    # Whether the model may be trained on samples that show each row what was before it.
    allows_time_limit = True

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        embedding_dim: int = 16,
        l2_embedding: float = 0.0,
        weighting: Weighting = "static",
        bottom: Mapping[str, Mapping[str, Any]] | None = None,
        node_features: Mapping[str, Mapping[str, np.ndarray]] | None = None,
        macro_graph: MacroGraph | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.tasks = tuple(tasks)
        self.task_names = tuple(task.name for task in self.tasks)
        _check_names(self.task_names)
        self.embedding = FeatureEmbedding(
            inputs, dim=embedding_dim, l2=l2_embedding, name="embedding"
        )
        with tf.name_scope(self.embedding.name):
            self.embedding.build(None)
        if not inputs and not self.needs_macro_graph and "macro" not in (bottom or {}):
            raise ValueError(
                f"{type(self).__name__} reads features and received no inputs: leave some out of "
                "exclude_inputs, or choose a model of the macro graph, which reads ids alone"
            )
        if weighting == "uncertainty":
            self.weighting = UncertaintyWeighting(self.task_names, name="weighting")
        elif weighting == "static":
            self.weighting = StaticWeighting(
                {task.name: task.weight for task in self.tasks}, name="weighting"
            )
        else:
            raise ValueError(
                f"expected weighting 'static' or 'uncertainty'; received {weighting!r}"
            )
        bottom = bottom or {}
        self.graph_bottom: NodeStateBottom | None = None
        self.macro_bottom: MacroBottom | None = None
        _check_bottom(bottom, {"mgnn": node_features, "macro": macro_graph})
        if "mgnn" in bottom:
            self.graph_bottom = GraphBottom(
                self.embedding, node_features or {}, len(tasks), **bottom["mgnn"], name="bottom"
            )
        if "macro" in bottom:
            assert macro_graph is not None
            if macro_graph.num_tasks != len(tasks):
                raise ValueError(
                    f"expected a macro graph of the model's {len(tasks)} tasks; received one of "
                    f"{macro_graph.num_tasks}: build it from the same schema"
                )
            self.macro_bottom = MacroBottom(
                self.task_names, macro_graph, **bottom["macro"], name="macro_bottom"
            )
        self._means = {name: keras.metrics.Mean(name=name) for name in _REPORTED}
        self._task_means = {
            name: keras.metrics.Mean(name=f"{name}_loss") for name in self.task_names
        }

    @property
    def uses_graph(self) -> bool:
        """Whether batches must bring a sampled graph or looked-up states."""
        return self.graph_bottom is not None

    def build_weights(self) -> None:
        """Creates every weight, so that a checkpoint can be restored before the first batch."""
        if self.graph_bottom is not None and not self.graph_bottom.built:
            with tf.name_scope(self.graph_bottom.name):
                self.graph_bottom.build()
        self.loss_inputs(self._example_row(), training=False)
        self.weighting({name: tf.constant(0.0) for name in self.task_names})

    def _example_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            spec.name: tf.zeros(
                [1, spec.width] if spec.width > 1 or spec.kind == "list" else [1],
                tf.float32 if spec.kind == "numeric" else tf.int32,
            )
            for spec in self.embedding.inputs
        }
        if self.macro_bottom is not None or self.needs_macro_graph:
            row |= {name: tf.zeros([1], tf.int32) for name in (USER_ID, ITEM_ID)}
        if self.graph_bottom is not None:
            keys = [key for side in GRAPH_SIDES for key in self.graph_bottom.outputs_of(side)]
            row[STATES] = {key: tf.zeros([1, self.graph_bottom.state_dim]) for key in keys}
        return row

    def feature_input(self, features: Mapping[str, Any]) -> tf.Tensor:
        """The row's features x = [x_u || x_i || x_context], `float [B, D]`."""
        row = tf.concat(
            [self.embedding(features, side=side) for side in SIDES if self.embedding.width(side)],
            axis=-1,
        )
        Recording.show_shared(row)
        return row

    def bottom_input(self, features: Mapping[str, Any]) -> list[tf.Tensor]:
        """What the bottoms say of the row, each `float [B, ...]`; nothing without a bottom."""
        parts: list[tf.Tensor] = []
        if self.graph_bottom is not None:
            parts += self.graph_bottom(features).values()
        if self.macro_bottom is not None:
            parts += self.macro_bottom(features).parts
        return [tf.cast(part, self.compute_dtype) for part in parts]

    def row_input(self, features: Mapping[str, Any]) -> tf.Tensor:
        """What the model reads of a row: its features and what its bottoms say."""
        row = [self.feature_input(features)] if self.embedding.inputs else []
        return tf.concat([*row, *self.bottom_input(features)], axis=-1)

    def adapt_to_graph(self, bundle: GraphBundle) -> None:
        """Takes what the model must know of the whole graph before it is trained: nothing here.

        Args:
            bundle: The graph that training samples come from.
        """
        del bundle

    def compute_node_states(
        self, edge_sets: Mapping[str, Edges], *, block_nodes: int = 2**15
    ) -> NodeStates:
        """Final states of all users and items over the whole graph.

        Args:
            edge_sets: NumPy edges per edge set name, sorted by target.
            block_nodes: Nodes whose features are embedded at one time.

        Returns:
            Tables to look states up in; storage O(E) + O(N d) while they are made.

        Raises:
            ValueError: If the model uses no graph.
        """
        if self.graph_bottom is None:
            raise ValueError(
                f"{type(self).__name__} has no graph states: build it with a bottom, such as "
                "bottom={'mgnn': {}}"
            )
        return self.graph_bottom.compute_node_states(edge_sets, block_nodes=block_nodes)

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        raise NotImplementedError

    def probabilities(self, features: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Probabilities `float32 [B]` per task: the one place where logits become them."""
        logits = self(features, training=False)
        return {name: tf.sigmoid(logits[name]) for name in self.task_names}

    def loss_inputs(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """What `task_losses` reads: the logits, beside which a model may give more, `[B]` each."""
        return self(features, training=training)

    def task_losses(
        self, logits: Mapping[str, tf.Tensor], labels: Mapping, sample_weights: Mapping
    ) -> dict[str, tf.Tensor]:
        """Masked cross entropy per task, scalars."""
        return {
            name: masked_binary_cross_entropy(labels[name], logits[name], sample_weights[name])
            for name in self.task_names
        }

    def loss_rows(self, labels: Mapping, sample_weights: Mapping) -> dict[str, tf.Tensor]:
        """Row weights `[B]` over which the loss of each task is a mean: where it is defined."""
        del labels
        return {name: sample_weights[name] for name in self.task_names}

    def weighted_loss(
        self, losses: Mapping[str, tf.Tensor], loss_rows: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """One scalar of the task losses, by the model's weighting."""
        del loss_rows
        return self.weighting(losses)

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """The weighted task losses of one batch; updates the reported means.

        Args:
            inputs: `(features, labels, sample_weights)`.
            training: Whether dropout and the like are active.

        Returns:
            Scalar `float32`, without regularisation and auxiliary losses (`self.losses`).
        """
        features, labels, sample_weights = inputs
        logits = self.loss_inputs(features, training=training)
        losses = self.task_losses(logits, labels, sample_weights)
        loss_rows = self.loss_rows(labels, sample_weights)
        loss = self.weighted_loss(losses, loss_rows)
        rows = tf.cast(tf.shape(logits[self.task_names[0]])[0], tf.float32)
        self._means["loss"].update_state(loss, rows)
        for name, mean in self._task_means.items():
            mean.update_state(losses[name], tf.reduce_sum(loss_rows[name]))
        if self.compiled_metrics is not None:
            predictions = {name: tf.sigmoid(logits[name]) for name in self.task_names}
            # A batch may bring labels of tasks that this model does not have.
            own_labels, own_weights = (
                {name: values[name] for name in self.task_names}
                for values in (labels, sample_weights)
            )
            self.compiled_metrics.update_state(own_labels, predictions, own_weights)
        return loss

    def _total_loss(self, inputs: Batch, training: bool) -> tf.Tensor:
        loss = self.compute_loss(inputs, training=training)
        terms = [tf.cast(term, tf.float32) for term in self.losses]
        # Tied to the batch: at the end of a dataset of unknown size Keras starts one more step, and
        # of that step TensorFlow still runs what needs no data.
        with tf.control_dependencies([loss]):
            regularization = tf.identity(tf.add_n(terms) if terms else 0.0)
        rows = tf.cast(tf.shape(inputs[1][self.task_names[0]])[0], tf.float32)
        self._means["regularization_loss"].update_state(regularization, rows)
        self._means["total_loss"].update_state(loss + regularization, rows)
        return loss + regularization

    def train_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """One step of the optimiser; the loss is scaled where the optimiser asks for it."""
        with tf.GradientTape() as tape:
            total = self._total_loss(inputs, training=True)
        self.optimizer.minimize(total, self.trainable_variables, tape=tape)
        return {metric.name: metric.result() for metric in self.metrics}

    def test_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """One step of evaluation."""
        self._total_loss(inputs, training=False)
        return {metric.name: metric.result() for metric in self.metrics}

    def predict_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Probabilities per task; labels and weights, when there are any, are not looked at."""
        return self.probabilities(data[0] if isinstance(data, tuple) else data)


def _check_bottom(bottom: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
    """Every bottom is known and has what it is made from."""
    lacking = sorted(name for name in bottom if sources.get(name) is None)
    if lacking:
        raise ValueError(
            "expected bottom 'mgnn' with node_features and 'macro' with macro_graph; received "
            f"bottom {dict(bottom)} and nothing to make {lacking} from: pass it, as `build_model` "
            "does"
        )


def _check_names(names: Sequence[str]) -> None:
    taken = [name for name in names if f"{name}_loss" in _REPORTED]
    if taken:
        raise ValueError(
            f"the losses of tasks {taken} would be reported under the names of the model's own "
            f"{list(_REPORTED)}; rename the tasks and set column="
        )
    # TensorFlow's rule for scopes, without which `fit` would fail inside the first trace.
    unusable = [name for name in names if not re.fullmatch(r"[A-Za-z0-9][\w./-]*", name, re.ASCII)]
    if unusable:
        raise ValueError(
            "expected task names of letters, digits and _ . / -, the first a letter or digit; "
            f"received {unusable}: rename the tasks and set column="
        )
