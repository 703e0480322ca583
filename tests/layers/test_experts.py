import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import Experts
from tfmtl.testing import assert_experts_differ, run_layer_test


def leaky(values):
    return np.where(values > 0, values, 0.2 * values)


IMPLEMENTATIONS = ("loop", "batched")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_golden(implementation):
    layer = Experts(2, [2, 1], implementation=implementation)
    layer.build([None, 2])
    first = [[[1, 0], [2, -1]], [[0, 3], [1, 1]]]
    second = [[[1], [10]], [[-2], [1]]]
    layer.set_weights(
        [np.array(w, np.float32) for w in (first, [[0, 1], [-5, 0]], second, [[0.5], [0]])]
    )
    # x = [1, 3]. Expert 0: [1 + 6, -3] + [0, 1] = [7, -2], leaky [7, -0.4]; 7 - 4 + 0.5 = 3.5.
    # Expert 1: [3, 3 + 3] + [-5, 0] = [-2, 6], leaky [-0.4, 6]; 0.8 + 6 = 6.8.
    np.testing.assert_allclose(layer(tf.constant([[1.0, 3.0]])), [[[3.5], [6.8]]], rtol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_equals_a_loop_over_experts(implementation):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=[7, 5]).astype(np.float32)
    layer = Experts(3, [6, 4, 2], implementation=implementation)
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


def test_implementations_agree_in_outputs_and_gradients():
    inputs = tf.random.stateless_normal([9, 12], [1, 2])
    found = {}
    for implementation in IMPLEMENTATIONS:
        layer = Experts(3, [8, 4], implementation=implementation)
        layer.build([None, 12])
        layer.set_weights(
            [
                tf.random.stateless_normal(weight.shape, [3, number])
                for number, weight in enumerate(layer.weights)
            ]
        )
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
            loss = tf.reduce_sum(tf.square(outputs))
        found[implementation] = [
            outputs,
            *tape.gradient(loss, [inputs, *layer.trainable_weights]),
        ]
    for looped, batched in zip(found["loop"], found["batched"], strict=True):
        scale = float(tf.reduce_max(tf.abs(batched)))
        np.testing.assert_allclose(looped / scale, batched / scale, atol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_outputs_that_are_not_stacked_are_those_that_are(implementation):
    layer = Experts(3, [4], implementation=implementation)
    stacked = layer(tf.ones([2, 5]))
    own = layer(tf.ones([2, 5]), stacked=False)
    assert len(own) == 3
    np.testing.assert_array_equal(tf.stack(own, axis=1), stacked)


def test_all_experts_are_evaluated_at_one_time_under_xla_alone():
    layer = Experts(2, [3])
    layer.build([None, 4])
    names = {
        compiled: [
            operation.type
            for operation in tf.function(layer, jit_compile=compiled)
            .get_concrete_function(tf.TensorSpec([5, 4]))
            .graph.get_operations()
        ]
        for compiled in (False, True)
    }
    counts = {
        compiled: (own.count("MatMul"), own.count("Einsum")) for compiled, own in names.items()
    }
    assert counts == {False: (2, 0), True: (0, 1)}


def test_an_unknown_implementation_is_refused():
    with pytest.raises(ValueError, match="'auto', 'loop' or 'batched'; received 'vmap'"):
        Experts(2, [3], implementation="vmap")
