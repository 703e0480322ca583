"""Attention scores of neighbours towards a target."""

from __future__ import annotations

import tensorflow as tf


def target_scores(
    neighbors: tf.Tensor, target: tf.Tensor, query: tf.Tensor, key: tf.Tensor
) -> tf.Tensor:
    """Scores (x_n W_Q).(q W_K) / sqrt(units) of neighbours x_n towards targets q.

    Args:
        neighbors: `float [N, d]`, the same for all rows, or `float [B, N, d]`.
        target: `float [B, d]`.
        query: W_Q `float [d, units]`.
        key: W_K `float [d, units]`.

    Returns:
        `float32 [B, N]`.

    Example:
        >>> neighbors, target = tf.constant([[1.0], [3.0]]), tf.constant([[5.0]])
        >>> target_scores(neighbors, target, tf.constant([[1.0]]), tf.constant([[2.0]])).numpy()
        array([[10., 30.]], dtype=float32)
    """
    # Products of half-precision numbers overflow when summed.
    neighbors, target, query, key = (
        tf.cast(tensor, tf.float32) for tensor in (neighbors, target, query, key)
    )
    # Both matrices go to the target, of which there is one per row, and none to its neighbours.
    direction = tf.matmul(tf.matmul(target, key), query, transpose_b=True)
    equation = "nd,bd->bn" if neighbors.shape.rank == 2 else "bnd,bd->bn"
    return tf.einsum(equation, neighbors, direction * int(query.shape[-1]) ** -0.5)
