"""A softmax over those neighbours that there are."""

from __future__ import annotations

import tensorflow as tf


def masked_softmax(scores: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Softmax over the last axis that gives elements outside the mask exactly 0.

    Rows without any element are 0 throughout, with finite gradients.

    Args:
        scores: `float32 [..., N]`.
        mask: `bool`, of the shape of the scores or one that broadcasts to it.

    Returns:
        `float32 [..., N]`.

    Example:
        >>> scores, mask = tf.zeros([2, 3]), tf.constant([[True, False, True], [False] * 3])
        >>> masked_softmax(scores, mask).numpy().tolist()
        [[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]]
    """
    # Infinity would make the gradients of empty rows NaN.
    return tf.where(mask, tf.nn.softmax(tf.where(mask, scores, scores.dtype.min)), 0.0)
