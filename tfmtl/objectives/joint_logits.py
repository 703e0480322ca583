"""Probability of a whole chain of behaviours."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def joint_logits(logits: Sequence[tf.Tensor]) -> tf.Tensor:
    """Logit of prod_k sigmoid(o_k), the probability that every behaviour of a chain happens.

    A chain fails at its first step that does, so with p_k = sigmoid(o_k)

        log P = sum_k log p_k,    log(1 - P) = logsumexp_k( sum_{j<k} log p_j + log(1 - p_k) )

    and the joint logit is their difference. No term is a difference of near equals: value and
    gradient hold for logits of any size, where log(1 - exp(log P)) would be infinite once P has
    been rounded to 1.

    Args:
        logits: `float [B]` per behaviour, each given that the ones before it happened.

    Returns:
        `float32 [B]`.

    Raises:
        ValueError: If there are no logits.

    References:
        Ma et al., Entire Space Multi-Task Model (SIGIR 2018), equation 1, for two behaviours.

    Example:
        >>> import tensorflow as tf
        >>> joint = joint_logits([tf.constant([0.0]), tf.constant([0.0])])
        >>> round(float(tf.sigmoid(joint)[0]), 4)  # 1/2 * 1/2
        0.25
    """
    if not logits:
        raise ValueError("expected the logits of at least one behaviour; received none")
    chain = [tf.cast(step, tf.float32) for step in logits]
    if len(chain) == 1:
        return chain[0]
    happened = tf.zeros_like(chain[0])
    failed_first_here = []
    for step in chain:
        failed_first_here.append(happened + tf.math.log_sigmoid(-step))
        happened += tf.math.log_sigmoid(step)
    return happened - tf.reduce_logsumexp(tf.stack(failed_first_here, axis=-1), axis=-1)
