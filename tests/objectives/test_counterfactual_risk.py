import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.objectives import counterfactual_risk

# Four rows, of which the first and third are observed and the last has no weight.
ERRORS = [0.6, math.nan, 0.2, math.nan]
OBSERVED = [True, False, True, True]
PROPENSITIES = [0.5, 0.1, 0.25, math.nan]
WEIGHTS = [1.0, 2.0, 1.0, 0.0]
IMPUTED = [0.4, 0.3, 0.5, math.nan]


def risk(errors=ERRORS, propensities=PROPENSITIES, imputed=None, weights=WEIGHTS):
    tensors = [tf.constant(part, tf.float32) for part in (errors, propensities)]
    if imputed is not None:
        tensors.append(tf.constant(imputed))
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = counterfactual_risk(
            tensors[0],
            tf.constant(OBSERVED),
            tensors[1],
            tf.constant(weights),
            imputed_errors=tensors[2] if imputed is not None else None,
        )
    gradients = tape.gradient(value, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return float(value), [gradient.numpy() for gradient in gradients]


def test_inverse_propensity_weighting():
    value, (by_error, by_propensity) = risk()
    # (0.6 / 0.5 + 2 * 0 + 0.2 / 0.25) / 4.
    assert value == pytest.approx((1.2 + 0.8) / 4)
    np.testing.assert_allclose(by_error, [2 / 4, 0, 4 / 4, 0])
    assert by_propensity.tolist() == [0, 0, 0, 0]


def test_doubly_robust():
    value, (by_error, by_propensity, by_imputed) = risk(imputed=IMPUTED)
    # e' + o (e - e') / p: 0.4 + 0.2 / 0.5 = 0.8, twice 0.3, 0.5 - 0.3 / 0.25 = -0.7.
    # o (e - e')^2 / p: 0.04 / 0.5 = 0.08, 0, 0.09 / 0.25 = 0.36.
    assert value == pytest.approx((0.8 + 0.6 - 0.7) / 4 + (0.08 + 0.36) / 4)
    # The errors have the gradient of the risk alone, the imputed ones that of their own loss,
    # 2 (e' - e) / p: -0.8 and 2.4.
    np.testing.assert_allclose(by_error, [2 / 4, 0, 4 / 4, 0])
    np.testing.assert_allclose(by_imputed, [-0.8 / 4, 0, 2.4 / 4, 0], rtol=1e-6)
    assert by_propensity.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("estimator", ["ipw", "dr"])
def test_right_propensities_or_right_imputed_errors_give_the_mean_over_all_rows(estimator):
    """Rows of two kinds, errors 0.3 and 0.9, observed with probability 0.2 and 0.8."""
    kinds = np.repeat([0, 1], 10)
    errors = np.array([0.3, 0.9], np.float32)[kinds]
    propensities = np.array([0.2, 0.8], np.float32)[kinds]
    # Exactly the expected number of each kind is observed.
    observed = np.concatenate([np.arange(10) < 2, np.arange(10) < 8])

    def estimate(propensities, imputed):
        # Without the imputation's own loss, which is no part of the risk.
        own = np.mean(observed * np.square(errors - imputed) / propensities)
        received = counterfactual_risk(
            *map(tf.constant, (errors, observed, propensities)),
            tf.ones(20),
            imputed_errors=tf.constant(imputed) if estimator == "dr" else None,
        )
        return float(received) - (own if estimator == "dr" else 0)

    wrong_propensities = np.full(20, 0.5, np.float32)
    assert estimate(propensities, 0 * errors + 0.1) == pytest.approx(0.6)
    by_imputation = estimate(wrong_propensities, errors)
    assert (by_imputation == pytest.approx(0.6)) == (estimator == "dr")
    assert estimate(wrong_propensities, 0 * errors + 0.1) != pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("imputed", [None, IMPUTED])
def test_without_weight_all_is_zero(imputed):
    value, gradients = risk(imputed=imputed, weights=[0.0] * 4)
    assert value == 0
    assert [gradient.tolist() for gradient in gradients] == [[0.0] * 4] * len(gradients)


def test_is_in_full_precision():
    half = tf.constant([0.5], tf.float16)
    received = counterfactual_risk(half, tf.constant([True]), half, half, imputed_errors=half)
    assert received.dtype == tf.float32
    assert float(received) == 0.5
