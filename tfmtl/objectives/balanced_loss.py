"""The tasks' losses so that every task of a batch counts alike."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf


def balanced_loss(
    losses: Mapping[str, tf.Tensor],
    rows: Mapping[str, tf.Tensor],
    weights: Mapping[str, float],
) -> tf.Tensor:
    """Weighted mean of the losses of those tasks that have rows in the batch.

        L = sum_t lambda_t L_t / sum_t lambda_t    over tasks t with n_t > 0

    with L_t the mean loss of task t's n_t rows. A task counts by its weight lambda_t, whatever its
    share of the batch, and the loss keeps its size however many tasks a batch has.

    Args:
        losses: Mean loss of each task, scalars.
        rows: Weights `[B]` of the rows behind each task's loss; all 0 where the batch has none.
        weights: lambda_t of each task.

    Returns:
        Scalar `float32`; 0 for a batch without any task.

    References:
        GRec (CIKM 2023), loss of the released code.

    Deviations:
        The released code scales the losses of a task's samples by B / n_t and divides by the sum
        of those scales, so that the size of the loss depends on the batch's composition.

    Example:
        >>> losses = {"click": tf.constant(0.5), "like": tf.constant(2.0), "buy": tf.constant(0.0)}
        >>> rows = {"click": tf.ones([4]), "like": tf.constant([0.0, 1]), "buy": tf.zeros([4])}
        >>> float(balanced_loss(losses, rows, {"click": 1.0, "like": 1.0, "buy": 1.0}))
        1.25
    """
    names = list(losses)
    present = tf.stack([tf.reduce_any(rows[name] > 0) for name in names])
    shares = tf.constant([weights[name] for name in names]) * tf.cast(present, tf.float32)
    total = tf.reduce_sum(shares * tf.stack([losses[name] for name in names]))
    return tf.math.divide_no_nan(total, tf.reduce_sum(shares))
