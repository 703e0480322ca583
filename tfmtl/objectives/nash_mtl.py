"""Nash-MTL: the step that tasks would agree on by bargaining."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives.gradient_cosines import gradient_cosines
from tfmtl.objectives.gradient_weighting import GradientWeighting

_MOST_STEPS = 50
_ENOUGH = 1e-5


@keras.utils.register_keras_serializable(package="tfmtl")
class NashMTL(GradientWeighting):
    """Nash's bargaining solution: max_d prod_k <g_k, d> over steps of one length.

        d = T sum_k a_k g_k / sum_k a_k,    M a = 1 / a,    a > 0

    a minimises a^T M a / 2 - sum_k log a_k, which Newton's damped method does from anywhere. A
    factor on a task's loss does not turn d, so that the weights of the schema change nothing but
    that a task of weight 0 is left out.

    Args:
        weights: Weight of the schema per task name.
        **kwargs: Passed to `keras.layers.Layer`.

    Call argument: dict of scalar task losses. Output: scalar.

    References:
        Navon et al., Multi-Task Learning as a Bargaining Game (ICML 2022), claim 3.1.

    Deviations:
        Newton's method where the paper solves a series of convex programs, and a new solution in
        every step. The paper's step has the length sqrt(T) whatever the gradients'; weights that
        sum to T let it shrink with them. Acts on the dense weights that tasks share; embedding
        tables have the plain sum.

    Example:
        >>> weighting = NashMTL({"click": 1.0, "like": 1.0})
        >>> losses = {"click": tf.constant(1.0), "like": tf.constant(1.0)}
        >>> # Orthogonal, of lengths 1 and 3: |g_k|^2 a_k = 1 / a_k, so that a = (3, 1) / 3.
        >>> weighting.task_weights(losses, tf.constant([[1.0, 0], [0, 9]])).numpy().round(3)
        array([1.5, 0.5], dtype=float32)
    """

    def combination(self, losses: tf.Tensor, gram: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """The weights of one step."""
        cosines, inverse = gradient_cosines(gram, present)

        def go_on(count: tf.Tensor, powers: tf.Tensor, distance: tf.Tensor) -> tf.Tensor:
            return (count < _MOST_STEPS) & (distance > _ENOUGH)

        def newton(
            count: tf.Tensor, powers: tf.Tensor, distance: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            slope = tf.linalg.matvec(cosines, powers) - 1 / powers
            curvature = cosines + tf.linalg.diag(1 / tf.square(powers))
            step = tf.linalg.solve(curvature, slope[:, tf.newaxis])[:, 0]
            distance = tf.sqrt(tf.maximum(tf.reduce_sum(step * slope), 0.0))
            # The damped step keeps powers positive; near the solution the whole one does.
            length = tf.where(distance > 0.25, 1 / (1 + distance), 1.0)
            return count + 1, powers - length * step, distance

        # Of orthogonal gradients the solution, of all others a start.
        state = (tf.constant(0), tf.ones_like(inverse), tf.constant(1.0))
        powers = tf.while_loop(go_on, newton, state, maximum_iterations=_MOST_STEPS)[1]
        weights = inverse * powers
        number = tf.reduce_sum(tf.cast(present, tf.float32))
        return number * tf.math.divide_no_nan(weights, tf.reduce_sum(weights))
