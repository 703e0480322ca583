"""Positions as rotations of queries and keys."""

from __future__ import annotations

import tensorflow as tf


def rotary_positions(states: tf.Tensor, base: float = 10000.0) -> tf.Tensor:
    """Rotates each pair of coordinates by an angle that grows with the position.

        (x_j, x_{j+d/2}) <- rotation by l base^{-2j/d} of (x_j, x_{j+d/2}),    j < d/2

    Products of rotated queries and keys depend on the difference of their positions only.

    Args:
        states: `float [..., L, d]`, with an even d known when the graph is traced.
        base: Base of the angles' geometric series. Defaults to 10000.0.

    Returns:
        `float [..., L, d]`; position 0 is unchanged.

    References:
        Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, equation 15.

    Deviations:
        Pairs are coordinates half a width apart, as in PaLM's public implementations; the paper
        pairs neighbours. Both are the same up to the order of the projection's columns.

    Example:
        >>> turned = rotary_positions(tf.constant([[1.0, 0.0], [1.0, 0.0]]))
        >>> [round(float(value), 4) for value in turned[1]]  # cos 1, sin 1
        [0.5403, 0.8415]
    """
    length = tf.shape(states)[-2] if states.shape[-2] is None else states.shape[-2]
    half = states.shape[-1] // 2
    # Angles of late positions would lose their digits in half precision.
    frequencies = base ** (-tf.range(half, dtype=tf.float32) / half)
    angles = tf.range(length, dtype=tf.float32)[:, tf.newaxis] * frequencies
    cosine, sine = tf.cast(tf.cos(angles), states.dtype), tf.cast(tf.sin(angles), states.dtype)
    first, second = tf.split(states, 2, axis=-1)
    return tf.concat([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
