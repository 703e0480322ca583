"""The least value of a convex function of task weights that sum to 1."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

_MOST_STEPS = 200
_RELATIVE = 1e-5


def simplex_minimum(
    start: tf.Tensor,
    allowed: tf.Tensor,
    slope: Callable[[tf.Tensor], tf.Tensor],
    step: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    *,
    floor: float,
) -> tf.Tensor:
    """Frank-Wolfe in pairs: weight goes from the task of the steepest slope to the least steep.

    With two tasks the first step is exact. With more the plain method, whose steps all aim at a
    corner, comes near in O(1 / steps) alone; in pairs the error falls by a factor in every few.

    Args:
        start: A point of the simplex, `[T]`.
        allowed: Tasks that may have weight, `bool [T]`.
        slope: Gradient of the function at given weights.
        step: From weights and a direction to the way along it that is best, below 0 or beyond the
            simplex too.
        floor: Difference of slopes that is taken for none.

    Returns:
        Weights `[T]`, at least 0; they sum to what `start` does.
    """
    number = start.shape[0]

    def go_on(count: tf.Tensor, weights: tf.Tensor, open_: tf.Tensor) -> tf.Tensor:
        return open_ & (count < _MOST_STEPS)

    def move(count: tf.Tensor, weights: tf.Tensor, open_: tf.Tensor) -> tuple[tf.Tensor, ...]:
        slopes = slope(weights)
        toward = tf.argmin(tf.where(allowed, slopes, slopes.dtype.max))
        away = tf.argmax(tf.where(weights > 0, slopes, slopes.dtype.min))
        least, most = tf.gather(slopes, toward), tf.gather(slopes, away)
        direction = tf.one_hot(toward, number) - tf.one_hot(away, number)
        length = tf.clip_by_value(step(weights, direction), 0.0, tf.gather(weights, away))
        enough = _RELATIVE * (tf.abs(least) + tf.abs(most)) + floor
        return count + 1, weights + length * direction, (most - least > enough) & (length > 0)

    state = (tf.constant(0), start, tf.constant(True))
    return tf.while_loop(go_on, move, state, maximum_iterations=_MOST_STEPS)[1]
