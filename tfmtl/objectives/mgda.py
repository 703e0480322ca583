"""MGDA: the shortest combination of the tasks' gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives.gradient_weighting import GradientWeighting
from tfmtl.objectives.simplex_minimum import simplex_minimum

Normalization = Literal["none", "norm", "loss"]


@keras.utils.register_keras_serializable(package="tfmtl")
class MGDA(GradientWeighting):
    """Multiple-gradient descent: a step that lowers all losses alike, none where none can be.

        d = T sum_k a_k g_k,    a = argmin over the simplex of | sum_k a_k g_k |^2

    Of two tasks a_1 = clip(<g_2 - g_1, g_2> / |g_1 - g_2|^2, 0, 1). All tasks with a_k > 0 have the
    same <g_k, d>, all others a greater one; d = 0 means that no step lowers every loss. The
    shortest gradient decides on the step: where tasks differ in size, look at `normalization`,
    after which a_k is in proportion to the weight of the divided gradient over its divisor. The
    weights of the schema multiply the losses first.

    Args:
        weights: Weight of the schema per task name.
        normalization: What gradients are divided by ahead of that: nothing (`none`), their `norm`
            or the task's `loss`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call argument: dict of scalar task losses. Output: scalar.

    Raises:
        ValueError: If there is no task, a weight is negative or `normalization` is unknown.

    References:
        Désidéri, Multiple-gradient descent algorithm (MGDA) for multiobjective optimization (2012);
        Sener and Koltun, Multi-Task Learning as Multi-Objective Optimization (NeurIPS 2018),
        algorithms 1 and 2.

    Deviations:
        The factor T, with which steps have the size of equal weights. The simplex is searched in
        pairs of tasks. Acts on the dense weights that tasks share; embedding tables have the plain
        sum.

    Example:
        >>> weighting = MGDA({"click": 1.0, "like": 1.0})
        >>> losses = {"click": tf.constant(1.0), "like": tf.constant(1.0)}
        >>> # Orthogonal, of lengths 1 and 3: a = (9, 1) / 10.
        >>> weighting.task_weights(losses, tf.constant([[1.0, 0], [0, 9]])).numpy().round(3)
        array([1.8, 0.2], dtype=float32)
    """

    def __init__(
        self, weights: Mapping[str, float], *, normalization: Normalization = "none", **kwargs: Any
    ):
        super().__init__(weights, **kwargs)
        if normalization not in ("none", "norm", "loss"):
            raise ValueError(
                f"expected normalization 'none', 'norm' or 'loss'; received {normalization!r}"
            )
        self.normalization: Normalization = normalization

    def combination(self, losses: tf.Tensor, gram: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """The weights of one step."""
        scales = tf.cast(present, tf.float32)
        if self.normalization == "norm":
            scales = tf.math.divide_no_nan(scales, tf.sqrt(tf.linalg.diag_part(gram)))
        elif self.normalization == "loss":
            scales = tf.math.divide_no_nan(scales, losses)
        gram *= scales * scales[:, tf.newaxis]
        gram = tf.math.divide_no_nan(gram, tf.reduce_max(tf.linalg.diag_part(gram)))

        def slope(weights: tf.Tensor) -> tf.Tensor:
            return tf.linalg.matvec(gram, weights)

        def step(weights: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
            toward = tf.linalg.matvec(gram, direction)
            bend = tf.reduce_sum(direction * toward)
            return tf.math.divide_no_nan(-tf.reduce_sum(weights * toward), bend)

        counted = tf.cast(present, tf.float32)
        number = tf.reduce_sum(counted)
        start = tf.math.divide_no_nan(counted, number)
        weights = scales * simplex_minimum(start, present, slope, step, floor=1e-9)
        return number * tf.math.divide_no_nan(weights, tf.reduce_sum(weights))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "normalization": self.normalization}
