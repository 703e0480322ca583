import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.layers import ScaledScore
from tfmtl.testing import run_layer_test

SCORES = tf.constant([0.5, -2.0, 3.0])


def test_starts_as_the_score():
    np.testing.assert_array_equal(ScaledScore()(SCORES), SCORES)


def test_scale_and_bias():
    layer = ScaledScore(l2=0.5)
    layer.build([None])
    layer.set_weights([np.float32(-2), np.float32(0.25)])
    np.testing.assert_allclose(layer(SCORES), [-0.75, 4.25, -5.75])
    assert [float(loss) for loss in layer.losses] == [pytest.approx(0.5 * 4)]


def test_logits_are_in_full_precision_under_a_half_policy():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        layer = ScaledScore()
        assert layer(tf.cast(SCORES, tf.float16)).dtype == tf.float32
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_as_a_layer():
    run_layer_test(lambda: ScaledScore(l2=0.1), SCORES)
