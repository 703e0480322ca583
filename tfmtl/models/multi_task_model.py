"""What every multi-task model of the package shares: the loss and how it is reported."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
from tfmtl.objectives.build_weighting import build_weighting
from tfmtl.objectives.masked_binary_cross_entropy import masked_binary_cross_entropy
from tfmtl.objectives.static_weighting import StaticWeighting
from tfmtl.schema import ITEM_ID, USER_ID, Task

Weighting = str | Mapping[str, Any]
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
    unscaled one. `fit` reports `weight/<task>` too, what the weighting gave a task in the steps in
    whose batch it is defined, unless the weighting is static.

    A weighting that reads gradients has those of each task on what tasks share: the trainable
    weights that at least two tasks have a gradient for, embedding tables left out. These weights
    receive the combination that the weighting makes of them. All others, and tables, whose
    gradients stay sparse, receive the gradient of `loss`, which is then the plain sum of task
    losses with the tasks' own weights unless the weighting says otherwise. A step costs one
    evaluation and a backward pass per task and one more. Regularisation counts once for all.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings.
        l2_embedding: Penalty on the batch's embeddings.
        weighting: How task losses are weighed: a name, such as `static` (the tasks' own weights),
            or a dict of a `name` and options, see `build_weighting`.
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
        self.weighting = build_weighting(weighting, self.tasks)
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
        self._weight_means = {
            name: keras.metrics.Mean(name=f"weight/{name}")
            for name in self.task_names
            if not isinstance(self.weighting, StaticWeighting)
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

    def completed_batch(self, inputs: Batch, training: bool) -> Batch:
        """A batch with what the model itself adds to it ahead of the losses: nothing here.

        Args:
            inputs: `(features, labels, sample_weights)`.
            training: Whether the batch is trained on.
        """
        del training
        return inputs

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """The weighted task losses of one batch; updates the reported means.

        Args:
            inputs: `(features, labels, sample_weights)`.
            training: Whether dropout and the like are active.

        Returns:
            Scalar `float32`, without regularisation and auxiliary losses (`self.losses`).
        """
        return self._reported_losses(inputs, training)[0]

    def _reported_losses(
        self, inputs: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The weighted loss of one batch and the losses it is made of."""
        features, labels, sample_weights = self.completed_batch(inputs, training)
        logits = self.loss_inputs(features, training=training)
        loss_rows = self.loss_rows(labels, sample_weights)
        losses, counts = _over_replicas(self.task_losses(logits, labels, sample_weights), loss_rows)
        loss = self.weighted_loss(losses, counts)
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
        return loss, losses

    def _all_losses(self, inputs: Batch, training: bool) -> _Losses:
        loss, by_task = self._reported_losses(inputs, training)
        terms = [tf.cast(term, tf.float32) for term in self.losses]
        # Tied to the batch: at the end of a dataset of unknown size Keras starts one more step, and
        # of that step TensorFlow still runs what needs no data.
        with tf.control_dependencies([loss]):
            regularization = tf.identity(tf.add_n(terms) if terms else 0.0)
        rows = tf.cast(tf.shape(inputs[1][self.task_names[0]])[0], tf.float32)
        self._means["regularization_loss"].update_state(regularization, rows)
        self._means["total_loss"].update_state(loss + regularization, rows)
        # Each replica differentiates the losses of all, and the optimiser sums their gradients.
        share = 1 / _num_replicas()
        return _Losses(share * (loss + regularization), share * regularization, by_task)

    def train_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """One step of the optimiser; the loss is scaled where the optimiser asks for it."""
        gram, after = None, None
        with tf.GradientTape(persistent=self.weighting.reads_gradients) as tape:
            losses = self._all_losses(inputs, training=True)
        if self.weighting.reads_gradients:
            gram, weights = self._combined_step(losses, tape)
        else:
            weights = self.weighting.task_weights(losses.by_task)
            self.optimizer.minimize(losses.total, self.trainable_variables, tape=tape)
        del tape
        if self.weighting.reads_losses_after:
            features, *rest = self.completed_batch(inputs, training=True)
            own = self.task_losses(self.loss_inputs(features, training=True), *rest)
            after, _ = _over_replicas(own, self.loss_rows(*rest))
        self.weighting.observe(losses.by_task, gram=gram, after=after)
        self._report_weights(weights, losses.by_task)
        return {metric.name: metric.result() for metric in self.metrics}

    def _combined_step(self, losses: _Losses, tape: tf.GradientTape) -> tuple[tf.Tensor, tf.Tensor]:
        """A step of the optimiser by the tasks' gradients; their Gram matrix and weights."""
        variables = self.trainable_variables

        def gradients(loss: tf.Tensor, sources: list[tf.Variable]) -> list[Any]:
            # Scales the loss and unscales its gradients under a loss scale.
            return [pair[0] for pair in self.optimizer.compute_gradients(loss, sources, tape=tape)]

        by_task = [gradients(losses.by_task[name], variables) for name in self.task_names]
        shared = [_is_shared(found) for found in zip(*by_task, strict=True)]
        if not any(shared):
            raise ValueError(
                f"{type(self).__name__} has no dense weights that two tasks share, on which "
                f"{type(self.weighting).__name__} could weigh their gradients: choose a weighting "
                "of losses, such as 'uncertainty', 'dwa' or 'famo', or a model with a shared trunk"
            )
        common = [variable for variable, is_in in zip(variables, shared, strict=True) if is_in]
        others = [variable for variable, is_in in zip(variables, shared, strict=True) if not is_in]
        rows = []
        for found in by_task:
            own = [gradient for gradient, is_in in zip(found, shared, strict=True) if is_in]
            rows.append(_flat(own, common))
        matrix = tf.stack(rows) / _num_replicas()
        whole = matrix
        if _num_replicas() > 1:
            # One answer for all replicas, each of which applies it to its own gradients.
            context = tf.distribute.get_replica_context()
            whole = context.all_reduce(tf.distribute.ReduceOp.SUM, matrix)
        # Sums of products: a matrix product may be rounded to fewer digits on a GPU.
        gram = tf.stack([tf.reduce_sum(whole * row, axis=1) for row in tf.unstack(whole)])
        weights = self.weighting.task_weights(losses.by_task, gram)
        combined = tf.reduce_sum(weights[:, tf.newaxis] * matrix, axis=0)
        combined += _flat(gradients(losses.regularization, common), common)
        parts = tf.split(combined, [variable.shape.num_elements() for variable in common])
        pairs = [
            (tf.reshape(part, variable.shape), variable)
            for part, variable in zip(parts, common, strict=True)
        ]
        pairs += zip(gradients(losses.total, others), others, strict=True)
        self.optimizer.apply_gradients(pairs)
        return gram, weights

    def _report_weights(self, weights: tf.Tensor, losses: Mapping[str, tf.Tensor]) -> None:
        counted = self.weighting.present(losses) & tf.math.is_finite(weights)
        weights = tf.where(counted, weights, 0.0)
        for number, name in enumerate(self._weight_means):
            # Replicas all have the weights of the whole batch.
            counts = tf.cast(counted[number], tf.float32) / _num_replicas()
            self._weight_means[name].update_state(weights[number], counts)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """`keras.Model.fit`, which also tells the weighting of the end of each epoch."""
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = callbacks.callbacks
        # First, so that a callback that saves the model saves what the weighting learned.
        callbacks = [_EpochEnd(), *tf.nest.flatten(callbacks or [])]
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def test_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """One step of evaluation."""
        self._all_losses(inputs, training=False)
        weights = {mean.name for mean in self._weight_means.values()}
        return {m.name: m.result() for m in self.metrics if m.name not in weights}

    def predict_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Probabilities per task; labels and weights, when there are any, are not looked at."""
        return self.probabilities(data[0] if isinstance(data, tuple) else data)


class _Losses(NamedTuple):
    total: tf.Tensor
    regularization: tf.Tensor
    by_task: dict[str, tf.Tensor]


class _EpochEnd(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.model.weighting.end_epoch()


def _num_replicas() -> int:
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def _over_replicas(
    losses: Mapping[str, tf.Tensor], loss_rows: Mapping[str, tf.Tensor]
) -> tuple[dict[str, tf.Tensor], Mapping[str, tf.Tensor]]:
    """Task losses over the rows of all replicas, and rows that stand for those behind them."""
    if _num_replicas() == 1:
        return dict(losses), loss_rows
    counts = {
        name: tf.reduce_sum(tf.cast(rows, tf.float32), keepdims=True)
        for name, rows in loss_rows.items()
    }
    context = tf.distribute.get_replica_context()
    # One by one: reduced together, a loss would have a gradient of zeros for what other tasks alone
    # read, which would seem to be shared.
    sums = {
        name: context.all_reduce(tf.distribute.ReduceOp.SUM, losses[name] * counts[name][0])
        for name in losses
    }
    counts = context.all_reduce(tf.distribute.ReduceOp.SUM, counts)
    means = {name: tf.math.divide_no_nan(sums[name], counts[name][0]) for name in sums}
    return means, counts


def _is_shared(gradients: Sequence[Any]) -> bool:
    """Whether a variable with these gradients, one per task, is dense and of several tasks."""
    reached = [gradient for gradient in gradients if gradient is not None]
    # Tables alone have sparse gradients.
    sparse = any(isinstance(gradient, tf.IndexedSlices) for gradient in reached)
    return not sparse and len(reached) >= min(2, len(gradients))


def _flat(gradients: Sequence[Any], variables: Sequence[tf.Variable]) -> tf.Tensor:
    """Gradients side by side, `float32 [P]`, zeros where there is none."""
    parts = [
        tf.zeros([variable.shape.num_elements()])
        if gradient is None
        else tf.reshape(tf.cast(gradient, tf.float32), [-1])
        for gradient, variable in zip(gradients, variables, strict=True)
    ]
    return tf.concat(parts, axis=0)


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
