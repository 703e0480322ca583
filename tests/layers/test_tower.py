import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import Tower
from tfmtl.testing import run_layer_test


def test_without_hidden_layers_it_is_a_vector():
    layer = Tower()
    layer.build([None, 3])
    layer.set_weights([np.array([[1], [-2], [0.5]]), np.array([4])])
    # 3 - 10 + 1 + 4 = -2; no activation on the logit.
    assert layer(tf.constant([[3.0, 5.0, 2.0]])).numpy().tolist() == [-2.0]


def test_hidden_layers():
    layer = Tower([2])
    layer.build([None, 1])
    layer.set_weights([np.array(w) for w in ([[2.0, -5.0]], [1.0, 0.0], [[3.0], [4.0]], [0.5])])
    # 2: [4 + 1, -10], leaky [5, -2]; 15 - 8 + 0.5 = 7.5. And 0: [1, 0]; 3 + 0.5 = 3.5.
    np.testing.assert_allclose(layer(tf.constant([[2.0], [0.0]])), [7.5, 3.5], rtol=1e-6)


def test_logit_is_in_full_precision_under_a_half_policy():
    layer = Tower(dtype="mixed_float16")
    layer.build([None, 1])
    layer.set_weights([np.array([[1.0]]), np.array([1e-4])])
    received = layer(tf.constant([[8.0]], tf.float16))
    # Half precision has steps of 2^-7 at 8.
    assert received.dtype == tf.float32
    assert float(received[0]) == pytest.approx(8.0001, abs=1e-5)


@pytest.mark.parametrize("units", [[], [6, 3]])
def test_as_a_layer(units):
    inputs = tf.constant(np.random.default_rng(3).normal(size=[5, 4]), tf.float32)
    outputs = run_layer_test(lambda: Tower(units, dropout=0.1, l2=0.1), inputs)
    assert outputs.shape == (5,)


def test_drops_hidden_activations_in_training_only():
    layer = Tower([100], dropout=0.5)
    inputs = tf.ones([1, 3])
    assert float(layer(inputs, training=True)[0]) != float(layer(inputs, training=True)[0])
    assert float(layer(inputs)[0]) == float(layer(inputs)[0])
