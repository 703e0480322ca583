"""Risk over the entire space of a behaviour that is observed on a chosen part of it."""

from __future__ import annotations

import tensorflow as tf


def counterfactual_risk(
    errors: tf.Tensor,
    observed: tf.Tensor,
    propensities: tf.Tensor,
    weights: tf.Tensor,
    *,
    imputed_errors: tf.Tensor | None = None,
) -> tf.Tensor:
    """Mean error over all rows, estimated from the observed ones.

    With the error e of a row, o = 1 where it is observed, and the propensity p of being so,

        inverse propensity weighting    mean( o e / p )
        doubly robust                   mean( e' + o (e - e') / p ) + mean( o (e - e')^2 / p )

    where e' is the imputed error and the second mean is the imputation's own loss. Both are
    unbiased if the propensities are right, the doubly robust risk also if the imputed errors are.

    Each term trains one thing. No gradient reaches the propensities. In the risk the imputed
    error is a constant, or it would be lowered for the sake of the risk; in the imputation's loss
    the error is a target, or predictions would move towards imputed errors and away from their
    labels.

    Args:
        errors: e, `float [B]`; anything where not observed.
        observed: Whether the error is observed, `bool [B]`.
        propensities: p, `float [B]`, positive and already clipped.
        weights: Non-negative row weights over the entire space, `float [B]`; 0 keeps a row out of
            the mean, value and gradient.
        imputed_errors: e', `float [B]`; None asks for inverse propensity weighting.

    Returns:
        Scalar `float32`, 0 when no row has weight.

    References:
        Wang et al., ESCM2: Entire Space Counterfactual Multi-Task Model (SIGIR 2022), the IPS and
        DR regularizers.

    Deviations:
        The stopped gradients, as in the alternating training of doubly robust joint learning
        (Wang et al., ICML 2019): the paper prints the terms without saying where gradients flow.

    Example:
        >>> import tensorflow as tf
        >>> errors, clicked = tf.constant([0.6, 9.0]), tf.constant([True, False])
        >>> risk = counterfactual_risk(errors, clicked, tf.constant([0.5, 0.5]), tf.ones(2))
        >>> round(float(risk), 4)  # (0.6 / 0.5 + 0) / 2
        0.6
    """
    weights = tf.cast(weights, tf.float32)
    counted = weights > 0
    observed = counted & observed
    errors = tf.where(observed, tf.cast(errors, tf.float32), 0.0)
    propensities = tf.where(observed, tf.cast(propensities, tf.float32), 1.0)
    inverse = tf.where(observed, 1.0 / tf.stop_gradient(propensities), 0.0)
    if imputed_errors is None:
        terms = inverse * errors
    else:
        imputed = tf.where(counted, tf.cast(imputed_errors, tf.float32), 0.0)
        constant = tf.stop_gradient(imputed)
        terms = constant + inverse * (errors - constant)
        terms += inverse * tf.square(tf.stop_gradient(errors) - imputed)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * terms), tf.reduce_sum(weights))
