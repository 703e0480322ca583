import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import MacroMicroFusion
from tfmtl.testing import run_layer_test


def test_golden():
    layer = MacroMicroFusion(1)
    layer.build([None, 2])
    # Kernel, bias, alpha; moving mean and variance.
    weights = ([[2.0], [-1.0]], [0.5], [0.1], [1.5], [4.0 - 1e-5])
    layer.set_weights([np.array(weight) for weight in weights])
    # 2 * 3 - 2.5 + 0.5 = 4 is 1.25 deviations above the mean.
    p = 1 / (1 + math.exp(-1.25))
    expected = [[4 * p + 0.1 * (1 - p) * 4]]
    np.testing.assert_allclose(layer(tf.constant([[3.0, 2.5]])), expected, rtol=1e-5)


def test_stacked_tasks_are_rows_of_one_block():
    inputs = tf.constant(np.random.default_rng(3).normal(size=[5, 3, 4]), tf.float32)
    stacked, flat = MacroMicroFusion(6), MacroMicroFusion(6)
    stacked.build(inputs.shape)
    flat.build([None, 4])
    flat.set_weights(stacked.get_weights())
    received = stacked(inputs, training=True)
    expected = flat(tf.reshape(inputs, [15, 4]), training=True)
    np.testing.assert_allclose(tf.reshape(received, [15, 6]), expected, rtol=1e-4, atol=1e-6)
    for one, other in zip(stacked.get_weights(), flat.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_drops_activations_in_training_only():
    layer = MacroMicroFusion(100, dropout=0.5)
    inputs = tf.constant(np.random.default_rng(3).normal(size=[8, 4]), tf.float32)
    share = np.mean(layer(inputs, training=True) == 0)
    # Eight hundred draws: four deviations are 0.07.
    assert abs(share - 0.5) < 0.07
    assert (layer(inputs).numpy() != 0).all()


@pytest.mark.parametrize("shape", [[5, 4], [5, 2, 4]])
def test_as_a_layer(shape):
    inputs = tf.constant(np.random.default_rng(3).normal(size=shape), tf.float32)
    outputs = run_layer_test(lambda: MacroMicroFusion(6, dropout=0.1, l2=0.1), inputs)
    assert outputs.shape == (*shape[:-1], 6)


def test_refuses_no_width():
    with pytest.raises(ValueError, match="expected positive units; received 0"):
        MacroMicroFusion(0)
