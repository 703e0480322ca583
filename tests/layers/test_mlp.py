import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import MLP
from tfmtl.testing import run_layer_test


def test_golden():
    layer = MLP([2, 1])
    layer.build([None, 2])
    layer.set_weights(
        [np.array(w, np.float32) for w in ([[1, -2], [3, 1]], [0, -1], [[2], [5]], [-20])]
    )
    # [1, 2]: [1 + 6, -2 + 2] + [0, -1] = [7, -1], leaky [7, -0.2]; 14 - 1 - 20 = -7, leaky -1.4.
    np.testing.assert_allclose(layer(tf.constant([[1.0, 2.0]])), [[-1.4]], rtol=1e-6)


def test_no_units_is_the_identity():
    inputs = tf.constant([[1.0, -2.0]])
    layer = MLP([])
    assert layer(inputs).numpy().tolist() == [[1.0, -2.0]]
    assert layer.weights == []


def test_leading_dimensions_are_kept():
    assert MLP([4, 2])(tf.ones([3, 5, 6])).shape == (3, 5, 2)


def test_drops_activations_in_training_only():
    layer = MLP([200], dropout=0.25, activation="linear")
    inputs = tf.ones([4, 3])
    dropped = layer(inputs, training=True).numpy()
    kept = layer(inputs, training=False).numpy()
    assert np.mean(dropped == 0) == pytest.approx(0.25, abs=0.1)
    np.testing.assert_allclose(dropped[dropped != 0], (kept / 0.75)[dropped != 0], rtol=1e-5)


def test_penalty_is_on_kernels_only():
    layer = MLP([1], l2=0.1)
    layer.build([None, 2])
    layer.set_weights([np.array([[3.0], [4.0]]), np.array([7.0])])
    assert float(tf.add_n(layer.losses)) == pytest.approx(2.5)


def test_as_a_layer():
    inputs = tf.constant(np.random.default_rng(3).normal(size=[5, 4]), tf.float32)
    run_layer_test(lambda: MLP([6, 2], activation="tanh", dropout=0.1, l2=0.1), inputs)


def test_refuses_empty_layers():
    with pytest.raises(ValueError, match=r"expected positive units; received \[4, 0\]"):
        MLP([4, 0])
