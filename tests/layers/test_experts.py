import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import Experts
from tfmtl.testing import assert_experts_differ, run_layer_test


def leaky(values):
    return np.where(values > 0, values, 0.2 * values)


def test_golden():
    layer = Experts(2, [2, 1])
    layer.build([None, 2])
    first = [[[1, 0], [2, -1]], [[0, 3], [1, 1]]]
    second = [[[1], [10]], [[-2], [1]]]
    layer.set_weights(
        [np.array(w, np.float32) for w in (first, [[0, 1], [-5, 0]], second, [[0.5], [0]])]
    )
    # x = [1, 3]. Expert 0: [1 + 6, -3] + [0, 1] = [7, -2], leaky [7, -0.4]; 7 - 4 + 0.5 = 3.5.
    # Expert 1: [3, 3 + 3] + [-5, 0] = [-2, 6], leaky [-0.4, 6]; 0.8 + 6 = 6.8.
    np.testing.assert_allclose(layer(tf.constant([[1.0, 3.0]])), [[[3.5], [6.8]]], rtol=1e-6)


def test_equals_a_loop_over_experts():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=[7, 5]).astype(np.float32)
    layer = Experts(3, [6, 4, 2])
    layer.build([None, 5])
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    weights = layer.get_weights()
    for expert in range(3):
        hidden = inputs
        for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
            hidden = leaky(hidden @ kernel[expert] + bias[expert])
        np.testing.assert_allclose(layer(inputs)[:, expert], hidden, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", [0, 1])
def test_experts_differ_at_the_start(kernel):
    layer = Experts(4, [8, 8])
    layer.build([None, 16])
    assert_experts_differ(layer.kernels[kernel].numpy())


@pytest.mark.parametrize("experts", [1, 8, 64])
def test_kernels_have_the_deviation_of_a_single_one(experts):
    layer = Experts(experts, [32])
    layer.build([None, 64])
    # Glorot uniform of a [64, 32] kernel: sqrt(2 / 96) = 0.144.
    assert layer.kernels[0].numpy().std() == pytest.approx(np.sqrt(2 / 96), rel=0.05)


def test_drops_activations_in_training_only():
    layer = Experts(2, [50], dropout=0.5)
    inputs = tf.ones([4, 3])
    assert np.mean(layer(inputs, training=True) == 0) == pytest.approx(0.5, abs=0.2)
    assert np.all(layer(inputs, training=False) != 0)


def test_penalty_is_on_kernels_only():
    layer = Experts(2, [1], l2=0.5)
    layer.build([None, 2])
    layer.set_weights([np.array([[[1], [2]], [[3], [0]]]), np.full([2, 1], 9.0)])
    assert float(tf.add_n(layer.losses)) == pytest.approx(0.5 * (1 + 4 + 9))


def test_as_a_layer():
    inputs = tf.constant(np.random.default_rng(3).normal(size=[5, 4]), tf.float32)
    outputs = run_layer_test(lambda: Experts(3, [6, 2], dropout=0.1, l2=0.1), inputs)
    assert outputs.shape == (5, 3, 2)


@pytest.mark.parametrize(("experts", "units"), [(0, [4]), (2, []), (2, [4, 0])])
def test_refuses_empty_banks(experts, units):
    with pytest.raises(ValueError, match=rf"received num_experts={experts}, units=\{units}"):
        Experts(experts, units)
