import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.objectives import masked_binary_cross_entropy

LN3, NAN, INF = math.log(3), math.nan, math.inf


def test_weighted_mean():
    # Logits ln 3, ln 3, 0 are probabilities 3/4, 3/4, 1/2; labels 1, 0, 1:
    # (2 * -ln(3/4) + 1 * -ln(1/4) + 5 * -ln(1/2)) / 8.
    loss = masked_binary_cross_entropy(
        tf.constant([1.0, 0.0, 1.0]), tf.constant([LN3, LN3, 0.0]), tf.constant([2.0, 1.0, 5.0])
    )
    assert float(loss) == pytest.approx((2 * math.log(4 / 3) + math.log(4) + 5 * math.log(2)) / 8)


@pytest.mark.parametrize("label", [NAN, INF, 7.0])
@pytest.mark.parametrize("logit", [0.5, NAN, INF])
def test_undefined_rows_are_in_neither_value_nor_gradient(label, logit):
    logits = tf.constant([LN3, logit])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = masked_binary_cross_entropy(
            tf.constant([0.0, label]), logits, tf.constant([1.0, 0.0])
        )
    # One row is left: -ln(1/4), gradient p - y = 3/4.
    assert float(loss) == pytest.approx(math.log(4))
    np.testing.assert_allclose(tape.gradient(loss, logits), [0.75, 0], rtol=1e-6)


def test_without_defined_rows_all_is_zero():
    logits = tf.constant([1.0, -2.0])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = masked_binary_cross_entropy(tf.constant([NAN, 1.0]), logits, tf.zeros(2))
    assert float(loss) == 0
    assert tape.gradient(loss, logits).numpy().tolist() == [0, 0]


def test_confident_logits_stay_finite():
    # -ln(sigmoid(-200)) is 200 where a probability would have been rounded to 0.
    loss = masked_binary_cross_entropy(tf.ones(1), tf.constant([-200.0]), tf.ones(1))
    assert float(loss) == pytest.approx(200)


def test_is_in_full_precision():
    half = tf.constant([20.0], tf.float16)
    loss = masked_binary_cross_entropy(tf.ones(1, tf.float16), half, tf.ones(1, tf.float16))
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(math.exp(-20), rel=1e-3)


def test_takes_integer_labels():
    loss = masked_binary_cross_entropy(tf.constant([1]), tf.constant([0.0]), tf.constant([True]))
    assert float(loss) == pytest.approx(math.log(2))
