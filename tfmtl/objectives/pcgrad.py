"""PCGrad: gradients are projected off those that they conflict with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives.gradient_weighting import GradientWeighting


@keras.utils.register_keras_serializable(package="tfmtl")
class PCGrad(GradientWeighting):
    """Sum of gradients each of which has lost what works against another task.

        for every i, for j != i in random order:    d_i <- d_i - min(<d_i, g_j>, 0) / |g_j|^2 g_j
        d = sum_i d_i

    starting from d_i = g_i. Each d_i remains a combination of the g_j, and so do their inner
    products follow from those of the g_j. Without conflicts all weights are 1, as equal weights
    are. The weights of the schema multiply the losses first.

    Args:
        weights: Weight of the schema per task name.
        seed: Seed of the random orders, which go on from a checkpoint as they would have.
        **kwargs: Passed to `keras.layers.Layer`.

    Call argument: dict of scalar task losses. Output: scalar.

    References:
        Yu et al., Gradient Surgery for Multi-Task Learning (NeurIPS 2020), algorithm 1.

    Deviations:
        Acts on the dense weights that tasks share; embedding tables have the plain sum.

    Example:
        >>> weighting = PCGrad({"click": 1.0, "like": 1.0})
        >>> losses = {"click": tf.constant(1.0), "like": tf.constant(1.0)}
        >>> _ = weighting(losses)
        >>> # <g_1, g_2> = -1: d_1 = g_1 + g_2 / 2 and d_2 = g_2 + g_1 / 4.
        >>> weighting.task_weights(losses, tf.constant([[4.0, -1], [-1, 2]])).numpy().tolist()
        [1.25, 1.5]
    """

    def __init__(self, weights: Mapping[str, float], *, seed: int = 0, **kwargs: Any):
        super().__init__(weights, **kwargs)
        self.seed = int(seed)

    def build(self, input_shape: Any) -> None:
        """Creates the number of steps, from which the orders follow."""
        self.steps = self.add_weight(
            name="steps",
            shape=(),
            dtype=tf.int64,
            initializer="zeros",
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        super().build(input_shape)

    def combination(self, losses: tf.Tensor, gram: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """The weights of one step."""
        number = len(self.weights_by_task)
        seed = tf.stack([tf.cast(self.seed, tf.int64), self.steps])
        drawn = tf.random.stateless_uniform([number, number], seed)
        orders = tf.argsort(drawn, axis=1)
        # Row i has d_i as a combination of the gradients.
        rows = tf.eye(number)
        lengths = tf.linalg.diag_part(gram)
        for others in tf.unstack(orders, axis=1):
            conflicts = tf.minimum(tf.reduce_sum(rows * tf.gather(gram, others), axis=1), 0.0)
            shares = tf.math.divide_no_nan(conflicts, tf.gather(lengths, others))
            others_rows = tf.one_hot(others, number)
            itself = tf.linalg.diag_part(others_rows) > 0
            rows -= tf.where(itself, 0.0, shares)[:, tf.newaxis] * others_rows
        return tf.reduce_sum(rows, axis=0)

    def observe(
        self,
        losses: Mapping[str, tf.Tensor],
        *,
        gram: tf.Tensor | None = None,
        after: Mapping[str, tf.Tensor] | None = None,
    ) -> None:
        """Counts the step."""
        # Tied to the batch: TensorFlow runs what needs no data after the last one too.
        self.steps.assign_add(tf.cast(tf.reduce_any(self.present(losses)), tf.int64))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "seed": self.seed}
