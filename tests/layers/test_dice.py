import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import Dice
from tfmtl.testing import run_layer_test


def dice(alpha, mean, variance, **options):
    layer = Dice(**options)
    layer.build([None, len(alpha)])
    layer.set_weights([np.array(alpha), np.array(mean), np.array(variance) - 1e-5])
    return layer


def test_golden():
    layer = dice(alpha=[0.5, -1.0], mean=[1.0, 0.0], variance=[4.0, 0.25])
    # Channel 0: (x - 1) / 2 = ln 3, p = 3/4, y = x (3/4 + 1/4 * 1/2) = 7/8 x.
    # Channel 1: x / 0.5 = -ln 4, p = 1/5, y = x (1/5 - 4/5) = -3/5 x.
    x = [1 + 2 * math.log(3), -0.5 * math.log(4)]
    np.testing.assert_allclose(layer(tf.constant([x])), [[7 / 8 * x[0], -3 / 5 * x[1]]], rtol=1e-5)


def test_statistics_are_those_of_the_batch_in_training():
    layer = dice(alpha=[0.0], mean=[100.0], variance=[9.0])
    # Mean 3, variance 4: one deviation below and one above.
    below, above = 1 / (1 + math.e), 1 / (1 + math.exp(-1))
    received = layer(tf.constant([[1.0], [5.0]]), training=True)
    np.testing.assert_allclose(received, [[1 * below], [5 * above]], rtol=1e-5)


def test_a_step_moves_the_averages():
    layer = dice(alpha=[0.0], mean=[2.0], variance=[9.0], momentum=0.75)
    layer(tf.constant([[1.0], [5.0]]), training=True)
    # 3/4 * 2 + 1/4 * 3 and 3/4 * 9 + 1/4 * 4.
    _, mean, variance = layer.get_weights()
    np.testing.assert_allclose([mean[0], variance[0]], [2.25, 7.75], rtol=1e-5)


def test_a_row_does_not_depend_on_others_outside_training():
    layer = dice(alpha=[0.3, 0.1], mean=[1.0, 2.0], variance=[1.0, 4.0])
    rows = tf.constant([[1.0, 2.0], [50.0, -70.0]])
    np.testing.assert_array_equal(layer(rows)[:1], layer(rows[:1]))


def test_statistics_are_over_all_axes_but_the_last():
    inputs = tf.constant(np.random.default_rng(3).normal(size=[5, 3, 2]), tf.float32)
    flat = dice(alpha=[0.5, -1.0], mean=[0.0, 0.0], variance=[1.0, 1.0])
    stacked = dice(alpha=[0.5, -1.0], mean=[0.0, 0.0], variance=[1.0, 1.0])
    expected = flat(tf.reshape(inputs, [15, 2]), training=True)
    received = stacked(inputs, training=True)
    assert received.shape == (5, 3, 2)
    np.testing.assert_allclose(tf.reshape(received, [15, 2]), expected, rtol=1e-6)
    for one, other in zip(stacked.get_weights(), flat.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_variance_beyond_half_precision():
    layer = Dice(dtype="mixed_float16")
    # The squares of 3000 are infinite in half precision.
    received = layer(tf.constant([[3000.0], [-3000.0]]), training=True)
    assert received.dtype == tf.float16
    above = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(received, [[3000 * above], [-3000 * (1 - above)]], rtol=1e-3)


@pytest.mark.parametrize("shape", [[5, 4], [5, 2, 4]])
def test_as_a_layer(shape):
    inputs = tf.constant(np.random.default_rng(3).normal(size=shape), tf.float32)
    assert run_layer_test(Dice, inputs).shape == tuple(shape)


@pytest.mark.parametrize("options", [{"momentum": 1.0}, {"momentum": -0.1}, {"epsilon": 0.0}])
def test_refuses_numbers_out_of_range(options):
    with pytest.raises(ValueError, match="momentum from 0 to below 1 and a positive epsilon; rec"):
        Dice(**options)
