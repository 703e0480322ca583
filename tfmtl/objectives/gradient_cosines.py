"""Cosines between the gradients of tasks."""

from __future__ import annotations

import tensorflow as tf

# Above the rounding of full precision, so that gradients of one line leave a matrix to solve with.
_RIDGE = 1e-5


def gradient_cosines(gram: tf.Tensor, present: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cosines of all pairs of tasks, and the inverse lengths of their gradients.

    Args:
        gram: Inner products `[T, T]`, 0 for tasks that are not present.
        present: Tasks that have a gradient, `bool [T]`.

    Returns:
        Positive definite `[T, T]`, tasks that are not present being orthogonal to all, and `[T]`,
        0 for those.
    """
    inverse = tf.where(present, tf.math.rsqrt(tf.linalg.diag_part(gram)), 0.0)
    cosines = gram * inverse * inverse[:, tf.newaxis]
    return tf.linalg.set_diag(cosines, tf.fill(tf.shape(inverse), 1 + _RIDGE)), inverse
