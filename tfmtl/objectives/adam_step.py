"""Adam on one number per task."""

from __future__ import annotations

import tensorflow as tf

_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-8


def adam_step(
    moments: tf.Variable, gradient: tf.Tensor, counted: tf.Tensor, learning_rate: float
) -> tf.Tensor:
    """Takes the moments of Adam one step further.

    Weightings keep what they learn apart from the model's optimiser: its rate, schedule, clipping
    and decay are for weights of another size.

    Args:
        moments: First moment, second moment and number of steps of each task, `[3, T]`; zeros at
            first.
        gradient: `[T]`.
        counted: Tasks that take the step, `bool [T]`; of others nothing changes.
        learning_rate: The learning rate.

    Returns:
        What to subtract from the numbers, `[T]`; 0 for tasks that are not counted.
    """
    first, second, steps = tf.unstack(moments)
    gradient = tf.where(counted, gradient, 0.0)
    first = tf.where(counted, _FIRST * first + (1 - _FIRST) * gradient, first)
    second = tf.where(counted, _SECOND * second + (1 - _SECOND) * tf.square(gradient), second)
    steps += tf.cast(counted, tf.float32)
    moments.assign(tf.stack([first, second, steps]))
    mean = tf.math.divide_no_nan(first, 1 - tf.pow(_FIRST, steps))
    deviation = tf.sqrt(tf.math.divide_no_nan(second, 1 - tf.pow(_SECOND, steps)))
    return tf.where(counted, learning_rate * mean / (deviation + _EPSILON), 0.0)
