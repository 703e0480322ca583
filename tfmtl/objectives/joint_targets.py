"""Labels of a whole chain of behaviours."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def joint_targets(
    labels: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether every behaviour of a chain happened, and the weight of the row that says so.

    One behaviour decides the row: the first that did not happen, or the last one. The joint label
    is the last behaviour's label where all before it happened, else 0; the joint weight is that of
    the deciding label, so it is 0 where that label is undefined, and on every row on which the
    chain's first behaviour is.

    Args:
        labels: `float [B]` per behaviour, 0 or 1; anything where the weight is 0.
        weights: Non-negative row weights `float [B]` per behaviour.

    Returns:
        Labels and weights, `float32 [B]` each.

    Raises:
        ValueError: If there are no labels, or not as many weights.

    References:
        Ma et al., Entire Space Multi-Task Model (SIGIR 2018), the labels of equation 3.

    Example:
        >>> import tensorflow as tf
        >>> click, buy = tf.constant([0.0, 1.0, 1.0]), tf.constant([0.0, 0.0, 1.0])
        >>> _, weights = joint_targets([click, buy], [tf.ones(3), tf.constant([0.0, 0.0, 1.0])])
        >>> weights.numpy().tolist()  # no click: decided; click, purchase unknown: not
        [1.0, 0.0, 1.0]
    """
    if not labels or len(labels) != len(weights):
        raise ValueError(
            "expected labels and weights of at least one behaviour; "
            f"received {len(labels)} and {len(weights)}"
        )
    pairs = [
        (tf.cast(label, tf.float32), tf.cast(weight, tf.float32))
        for label, weight in zip(labels, weights, strict=True)
    ]
    *before, (last_label, last_weight) = pairs
    reached = tf.ones_like(last_weight, tf.bool)
    decided_before = tf.zeros_like(last_weight)
    for label, weight in before:
        happened = (weight > 0) & (label == 1)
        decided_before += tf.where(reached & ~happened, weight, 0.0)
        reached &= happened
    last_weight = tf.where(reached, last_weight, 0.0)
    return tf.where(last_weight > 0, last_label, 0.0), decided_before + last_weight
