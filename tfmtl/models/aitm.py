"""AITM: each task passes on what it learned to the next behaviour."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.data.input_spec import InputSpec
from tfmtl.data.task_chains import task_chains
from tfmtl.layers.information_transfer import InformationTransfer
from tfmtl.layers.mlp import MLP
from tfmtl.layers.tower import Tower
from tfmtl.models.multi_task_model import MultiTaskModel, Weighting
from tfmtl.objectives.joint_logits import joint_logits
from tfmtl.schema import Task


class AITM(MultiTaskModel):
    """h^t = MLP^t(x); z^1 = h^1; z^t = AIT^t(W^t z^{t-1}, h^t); o^t = tower^t(z^t).

    Tasks follow each other in the order of behaviour: by `Task.order`, of equal order parents
    before their children, and else as listed. AIT is `InformationTransfer`.

    With `order_weight` lambda > 0 the loss of a task gains

        lambda mean max(P^t - P^{t-1}, 0)

    which asks that a later behaviour be no more probable than the one before it. P is the joint
    probability of a task and its parents, because only joint probabilities are about the same
    rows: P(purchase | click) may well exceed P(click). As a child's joint probability never
    exceeds that of an ancestor, the term is zero for a task that follows its ancestor and is not
    made. It is there for pairs of neighbours of which the later has the greater `Task.order` and
    the earlier is not its ancestor, such as tasks that the schema orders without naming parents.
    The mean is over the rows of the later task; rows on which a task of either chain is undefined
    add nothing. The reported `<task>_loss` includes the term.

    Args:
        tasks: The schema's tasks, in any order.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings.
        bottom_units: Widths of each task's network below the transfer; the last is that of h.
        tower_units: Hidden widths of a tower.
        order_weight: lambda.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared dense kernels.
        l2_embedding: Penalty on the batch's embeddings.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If a task's parent is not among the tasks, `bottom_units` is empty, or
            `order_weight` is negative or has no pair of tasks to act on.

    References:
        Xi et al., Modeling the Sequential Dependence among Audience Multi-step Conversions with
        Multi-task Learning in Targeted Display Advertising (KDD 2021): the AITM framework, with
        the behavioral expectation calibrator as order loss.

    Deviations:
        The paper's labels are joint behaviours over all rows; here a task with a parent is learned
        where it is defined, as by every model, and the order loss is off by default (0.6 in the
        paper). Every step has matrices of its own. W^t is linear.

    Example:
        >>> import tensorflow as tf
        >>> age = InputSpec("age", "categorical", side="context", vocabulary_size=8, width=1)
        >>> model = AITM([Task(name="buy", parent="click"), Task(name="click")], [age])
        >>> model.sequence
        ('click', 'buy')
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        embedding_dim: int = 16,
        bottom_units: Sequence[int] = (128, 64),
        tower_units: Sequence[int] = (32,),
        order_weight: float = 0.0,
        dropout: float = 0.0,
        l2: float = 0.0,
        l2_embedding: float = 0.0,
        weighting: Weighting = "static",
        **kwargs: Any,
    ):
        super().__init__(
            tasks,
            inputs,
            embedding_dim=embedding_dim,
            l2_embedding=l2_embedding,
            weighting=weighting,
            **kwargs,
        )
        if not bottom_units:
            raise ValueError(
                "expected at least one width in bottom_units, that of the states that tasks pass "
                f"on; received {list(bottom_units)}"
            )
        if order_weight < 0:
            raise ValueError(f"expected order_weight of at least 0; received {order_weight}")
        self.chains = task_chains(self.tasks)
        in_order = sorted(self.tasks, key=lambda task: (task.order, len(self.chains[task.name])))
        self.sequence = tuple(task.name for task in in_order)
        self.order_weight = float(order_weight)
        self.ordered_pairs = tuple(
            (before.name, task.name)
            for before, task in itertools.pairwise(in_order)
            if before.order < task.order and before.name not in self.chains[task.name]
        )
        if self.order_weight and not self.ordered_pairs:
            raise ValueError(
                f"order_weight {order_weight} has no pair of tasks to act on: in the sequence "
                f"{list(self.sequence)} each task follows an ancestor, whose joint probability is "
                "never smaller, or a task of the same order: set order_weight=0, or give the tasks "
                "an order"
            )
        self.bottoms = {
            name: MLP(bottom_units, dropout=dropout, l2=l2, name=f"{name}_bottom")
            for name in self.task_names
        }
        regularizer = keras.regularizers.L2(l2) if l2 else None
        self.projections = {
            name: keras.layers.Dense(
                bottom_units[-1],
                use_bias=False,
                kernel_regularizer=regularizer,
                name=f"{name}_projection",
            )
            for name in self.sequence[1:]
        }
        self.transfers = {
            name: InformationTransfer(l2=l2, name=f"{name}_transfer") for name in self.sequence[1:]
        }
        self.towers = {
            name: Tower(tower_units, dropout=dropout, l2=l2, name=f"{name}_tower")
            for name in self.task_names
        }

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        row = self.row_input(features)
        logits: dict[str, tf.Tensor] = {}
        state = None
        for name in self.sequence:
            own = self.bottoms[name](row, training=training)
            if state is None:
                state = own
            else:
                state = self.transfers[name](self.projections[name](state), own)
            logits[name] = self.towers[name](state, training=training)
        return {name: logits[name] for name in self.task_names}

    def task_losses(
        self, logits: Mapping[str, tf.Tensor], labels: Mapping, sample_weights: Mapping
    ) -> dict[str, tf.Tensor]:
        """Masked cross entropy per task, with the order loss where it is asked for; scalars."""
        losses = super().task_losses(logits, labels, sample_weights)
        if self.order_weight:
            for before, name in self.ordered_pairs:
                excess = self._mean_excess(before, name, logits, sample_weights)
                losses[name] += self.order_weight * excess
        return losses

    def _mean_excess(
        self, before: str, name: str, logits: Mapping[str, tf.Tensor], sample_weights: Mapping
    ) -> tf.Tensor:
        tasks = {*self.chains[before], *self.chains[name]}
        compared = tf.reduce_all([sample_weights[task] > 0 for task in sorted(tasks)], axis=0)
        earlier, later = (
            tf.sigmoid(
                joint_logits([tf.where(compared, logits[step], 0.0) for step in self.chains[task]])
            )
            for task in (before, name)
        )
        weights = tf.cast(sample_weights[name], tf.float32)
        excess = tf.where(compared, weights * tf.nn.relu(later - earlier), 0.0)
        return tf.math.divide_no_nan(tf.reduce_sum(excess), tf.reduce_sum(weights))
