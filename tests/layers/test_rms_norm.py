import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import RMSNorm
from tfmtl.testing import run_layer_test


def test_golden():
    layer = RMSNorm(epsilon=0.5)
    layer.build([None, 2])
    layer.set_weights([np.array([3.0, -1.0], np.float32)])
    # Mean square (1 + 6) / 2 = 3.5, and 0.5 more: divided by 2, then scaled by 3 and -1.
    received = layer(tf.constant([[1.0, 6.0**0.5]]))
    np.testing.assert_allclose(received, [[1.5, -(6.0**0.5) / 2]], rtol=1e-6)


def test_zeros_stay_zeros_with_finite_gradients():
    states = tf.zeros([2, 3])
    with tf.GradientTape() as tape:
        tape.watch(states)
        outputs = RMSNorm()(states)
    np.testing.assert_array_equal(outputs, np.zeros([2, 3]))
    assert np.isfinite(tape.gradient(outputs, states)).all()


def test_squares_beyond_half_precision():
    # 400^2 = 160000 is infinite in half precision.
    received = RMSNorm(dtype="mixed_float16")(tf.constant([[400.0, -400.0]]))
    np.testing.assert_allclose(received, [[1, -1]], rtol=1e-3)


def test_epsilon_is_positive():
    with pytest.raises(ValueError, match="expected a positive epsilon; received 0"):
        RMSNorm(epsilon=0)


def test_as_a_layer():
    states = tf.constant(np.random.default_rng(3).normal(size=[4, 3, 5]), tf.float32)
    assert run_layer_test(lambda: RMSNorm(epsilon=1e-3), states).shape == (4, 3, 5)
