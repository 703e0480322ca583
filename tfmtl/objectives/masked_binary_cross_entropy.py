"""Binary cross entropy over the rows on which a task is defined."""

import tensorflow as tf


def masked_binary_cross_entropy(
    labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor
) -> tf.Tensor:
    """Weighted mean of the cross entropy: sum(w l) / sum(w), 0 when no row is defined.

    Rows of weight 0 are replaced before the loss, so that whatever their label holds, NaN
    included, neither the value nor the gradient sees it.

    Args:
        labels: 0/1 labels, `float [B]`; anything where the weight is 0.
        logits: `float [B]`.
        weights: Non-negative row weights, `float [B]`.

    Returns:
        Scalar `float32`.

    References:
        MoGENet equation 5, per task and averaged.

    Example:
        >>> import tensorflow as tf
        >>> loss = masked_binary_cross_entropy(
        ...     tf.constant([1.0, float("nan")]), tf.constant([0.0, 7.0]), tf.constant([1.0, 0.0]))
        >>> round(float(loss), 4)  # -log(1/2)
        0.6931
    """
    weights = tf.cast(weights, tf.float32)
    defined = weights > 0
    labels = tf.where(defined, tf.cast(labels, tf.float32), 0.0)
    logits = tf.where(defined, tf.cast(logits, tf.float32), 0.0)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * losses), tf.reduce_sum(weights))
