"""CAGrad: the best step for the worst-off task near the average gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives.gradient_weighting import GradientWeighting
from tfmtl.objectives.simplex_minimum import simplex_minimum

_SMALL = 1e-10


@keras.utils.register_keras_serializable(package="tfmtl")
class CAGrad(GradientWeighting):
    """Conflict-averse gradient: max_d min_i <g_i, d> with |d - g_0| <= c |g_0|, g_0 the mean.

        d = g_0 + c |g_0| / |g_w| g_w,    g_w = sum_i w_i g_i
        w = argmin over the simplex of <g_w, g_0> + c |g_0| |g_w|

    times T / (1 + c), so that steps have the size of equal weights: those it gives at c = 0 and to
    tasks that agree. At a large c it is MGDA. The weights of the schema multiply the losses first.

    Args:
        weights: Weight of the schema per task name.
        c: How far from the average the step may go, as a share of its length.
        **kwargs: Passed to `keras.layers.Layer`.

    Call argument: dict of scalar task losses. Output: scalar.

    Raises:
        ValueError: If there is no task, or a weight or c is negative.

    References:
        Liu, Liu, Jin, Stone and Liu, Conflict-Averse Gradient Descent for Multi-task Learning
        (NeurIPS 2021), algorithm 1.

    Deviations:
        The factor T / (1 + c). Acts on the dense weights that tasks share; embedding tables have
        the plain sum.

    Example:
        >>> weighting = CAGrad({"click": 1.0, "like": 1.0}, c=0.5)
        >>> losses = {"click": tf.constant(1.0), "like": tf.constant(1.0)}
        >>> weighting.task_weights(losses, tf.constant([[1.0, 0], [0, 1]])).numpy().round(3)
        array([1., 1.], dtype=float32)
    """

    def __init__(self, weights: Mapping[str, float], *, c: float = 0.4, **kwargs: Any):
        super().__init__(weights, **kwargs)
        if c < 0:
            raise ValueError(f"expected c of at least 0; received {c}: the paper's is 0.4")
        self.c = float(c)

    def combination(self, losses: tf.Tensor, gram: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """The weights of one step."""
        counted = tf.cast(present, tf.float32)
        number = tf.reduce_sum(counted)
        to_mean = tf.linalg.matvec(gram, tf.math.divide_no_nan(counted, number))
        length = tf.sqrt(tf.math.divide_no_nan(tf.reduce_sum(counted * to_mean), number))
        radius = self.c * length

        def norm(weights: tf.Tensor) -> tf.Tensor:
            # Smooth where the gradients cancel.
            return tf.sqrt(tf.reduce_sum(weights * tf.linalg.matvec(gram, weights)) + _SMALL)

        def slope(weights: tf.Tensor) -> tf.Tensor:
            return to_mean + radius * tf.linalg.matvec(gram, weights) / norm(weights)

        def step(weights: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
            # d/dt ( linear t + radius sqrt(u(t)^2 / bend + rest / bend) ) = 0, u = first + bend t.
            linear = tf.reduce_sum(to_mean * direction)
            toward = tf.linalg.matvec(gram, direction)
            first, bend = tf.reduce_sum(weights * toward), tf.reduce_sum(direction * toward)
            rest = tf.maximum(tf.square(norm(weights)) * bend - tf.square(first), 0.0)
            share = tf.math.divide_no_nan(tf.square(linear), tf.square(radius) * bend)
            turn = tf.sqrt(tf.math.divide_no_nan(share * rest, 1 - share))
            best = tf.math.divide_no_nan(-tf.sign(linear) * turn - first, bend)
            # Steeper than the length can make up for: downhill to the end.
            straight = (share >= 1) | (bend <= 0) | (radius <= 0)
            return tf.where(straight, 1.0, best)

        start = tf.math.divide_no_nan(counted, number)
        weights = simplex_minimum(start, present, slope, step, floor=1e-6)
        return (1 + number * radius / norm(weights) * weights) / (1 + self.c)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "c": self.c}
