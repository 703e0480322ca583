"""MoGENet's cooperative loss on the gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

Cooperation = Literal["row", "batch"]


def cooperative_loss(gates: Sequence[tf.Tensor], *, level: Cooperation = "row") -> tf.Tensor:
    """Rewards gates that spread the load: - sum_k sum_{n<m} g^k_n g^k_m, averaged over rows.

    It lies in [-K (N - 1) / (2 N), 0]; uniform gates reach the lower end, one-hot gates give 0.

    Args:
        gates: One `float [B, N]` per task, rows summing to 1.
        level: `row` as in the paper, or `batch`: the same of the batch's mean gate, which asks for
            balanced load but leaves each row free to choose.

    Returns:
        Scalar `float32`.

    Raises:
        ValueError: If there are no gates or `level` is unknown.

    References:
        MoGENet equation 7, through sum_{n<m} g_n g_m = (1 - |g|^2) / 2.

    Deviations:
        A mean over the batch where the paper sums over all samples.

    Example:
        >>> import tensorflow as tf
        >>> float(cooperative_loss([tf.fill([8, 4], 0.25)]))
        -0.375
    """
    if not gates:
        raise ValueError("expected the gate of at least one task; received none")
    if level not in ("row", "batch"):
        raise ValueError(f"expected level 'row' or 'batch'; received {level!r}")
    stacked = tf.cast(tf.stack(list(gates), axis=1), tf.float32)
    if level == "batch":
        stacked = tf.reduce_mean(stacked, axis=0, keepdims=True)
    squares = tf.reduce_sum(tf.square(stacked), axis=-1)
    return tf.reduce_mean(tf.reduce_sum(squares - 1.0, axis=1)) / 2.0
