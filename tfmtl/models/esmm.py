"""ESMM: behaviours that follow from others are learned over the entire space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.data.task_chains import task_chains
from tfmtl.layers.tower import Tower
from tfmtl.models.multi_task_model import MultiTaskModel, Weighting
from tfmtl.objectives.joint_logits import joint_logits
from tfmtl.objectives.joint_targets import joint_targets
from tfmtl.objectives.masked_binary_cross_entropy import masked_binary_cross_entropy
from tfmtl.schema import Task


class ESMM(MultiTaskModel):
    """o^k = MLP^k(x) on shared embeddings; children are trained through their chain of parents.

    A child is observed where its parent is positive only, but asked for everywhere. Its logit
    keeps its meaning, pCVR = sigmoid(o) = P(child | parent), but is trained through the joint
    probability of the chain c_1 -> ... -> c_m = k of its parents

        P^k = prod_j sigmoid(o^{c_j}),    L^k = mean BCE( all of c_1..c_m happened, P^k )

    for click -> purchase: pCTCVR = pCTR pCVR. The mean is over every row on which the first of
    the chain is defined and the joint label known: it is 0 where a parent is negative, and a row
    is left out where the parent is positive and the child undefined. Tasks without a parent have
    their own cross entropy, so without parents these are plain networks on shared embeddings.

    The reported `<task>_loss` of a child is this joint loss, over the rows of its mean; metrics
    are those of the conditional probability on the rows where the child is defined, as for every
    model.

    Args:
        tasks: The schema's tasks, a parent anywhere in the list.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings.
        units: Hidden widths of each task's network.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared dense kernels.
        l2_embedding: Penalty on the batch's embeddings.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If a task's parent is not among the tasks.

    References:
        Ma et al., Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click
        Conversion Rate (SIGIR 2018), equations 1 and 3.

    Deviations:
        Chains of any length. Losses are means over rows. The product is taken in log space.

    Example:
        >>> import tensorflow as tf
        >>> age = InputSpec("age", "categorical", side="context", vocabulary_size=8, width=1)
        >>> model = ESMM([Task(name="click"), Task(name="buy", parent="click")], [age])
        >>> sorted(model({"age": tf.constant([1, 2])}))
        ['buy', 'click']
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        embedding_dim: int = 16,
        units: Sequence[int] = (128, 64, 32),
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
        self.chains = task_chains(self.tasks)
        self.towers = {
            name: Tower(units, dropout=dropout, l2=l2, name=f"{name}_tower")
            for name in self.task_names
        }

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task, for a child given that its parent happened."""
        row = self.row_input(features)
        return {name: self.towers[name](row, training=training) for name in self.task_names}

    def _targets(
        self, chain: Sequence[str], labels: Mapping, sample_weights: Mapping
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return joint_targets(
            [labels[name] for name in chain], [sample_weights[name] for name in chain]
        )

    def task_losses(
        self, logits: Mapping[str, tf.Tensor], labels: Mapping, sample_weights: Mapping
    ) -> dict[str, tf.Tensor]:
        """Cross entropy of the joint probability of each task's chain, scalars."""
        losses = {}
        for name, chain in self.chains.items():
            happened, weights = self._targets(chain, labels, sample_weights)
            # Replaced before the joint logit: a row left out may hold what has no finite gradient.
            steps = [tf.where(weights > 0, logits[step], 0.0) for step in chain]
            losses[name] = masked_binary_cross_entropy(happened, joint_logits(steps), weights)
        return losses

    def loss_rows(self, labels: Mapping, sample_weights: Mapping) -> dict[str, tf.Tensor]:
        """Row weights `[B]` of each task's joint loss."""
        return {
            name: self._targets(chain, labels, sample_weights)[1]
            for name, chain in self.chains.items()
        }
