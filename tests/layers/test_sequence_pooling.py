import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import SequencePooling
from tfmtl.testing import run_layer_test

STATES = tf.constant([[[-1.0, 4.0], [-3.0, 2.0], [90.0, 80.0]], [[5.0, 5.0], [6.0, 6.0], [7.0, 7]]])
MASK = tf.constant([[True, True, False], [False, False, False]])
INNER = np.array([[1, 0], [0, 2], [3, 0], [0, 1]], np.float32)
OUTER = np.array([[1, 1], [0, -1]], np.float32)


def pooling(**options):
    layer = SequencePooling(**options)
    layer.build([None, 3, 2])
    layer.set_weights([INNER, np.array([1.0, 2.0]), OUTER, np.array([0.5, 0.0])])
    return layer


def test_golden():
    # Mean [-2, 3] and maximum [-1, 4] of the two valid positions.
    # Inner: -2 + 3 (-1) + 1 = -4 and 2 * 3 + 4 + 2 = 12; outer: -4 + 0.5 and -4 - 12.
    # The empty row: zeros, so inner [1, 2] and outer [1.5, 1 - 2].
    received = pooling()(STATES, MASK)
    np.testing.assert_allclose(received, [[-3.5, -16], [1.5, -1]], rtol=1e-6)


def test_no_mask_means_all_positions():
    full = tf.ones([2, 3], tf.bool)
    np.testing.assert_array_equal(pooling()(STATES), pooling()(STATES, full))


def test_a_row_without_positions_has_finite_gradients():
    layer = pooling()
    with tf.GradientTape() as tape:
        tape.watch(STATES)
        loss = tf.reduce_sum(layer(STATES, MASK) ** 2)
    gradient = tape.gradient(loss, STATES).numpy()
    np.testing.assert_array_equal(gradient[1], np.zeros([3, 2]))
    np.testing.assert_array_equal(gradient[0, 2], [0, 0])
    assert (gradient[0, :2] != 0).any()
    assert np.isfinite(gradient).all()


def test_sums_beyond_half_precision():
    layer = SequencePooling(dtype="mixed_float16")
    layer.build([None, None, 1])
    layer.set_weights([np.array([[1.0], [0.0]]), np.zeros(1), np.ones([1, 1]), np.zeros(1)])
    # 500 times 200 is infinite in half precision; the mean is 200.
    np.testing.assert_allclose(layer(tf.fill([1, 500, 1], 200.0)), [[200]], rtol=1e-3)


def test_units_are_positive():
    with pytest.raises(ValueError, match="expected positive units; received 0"):
        SequencePooling(0)


def test_as_a_layer():
    states = tf.constant(np.random.default_rng(3).normal(size=[2, 3, 4]), tf.float32)
    assert run_layer_test(lambda: SequencePooling(6), states, MASK).shape == (2, 6)
