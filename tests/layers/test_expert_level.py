import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import ExpertLevel
from tfmtl.testing import assert_experts_differ, run_layer_test

# Three groups; the second output does not see the group 2.
VISIBLE = [[1, 2, 0], [0, 1], [0, 2]]


def level(shape, seed=0, **options):
    options = {"normalization": "layer", "rank": 2, **options}
    layer = ExpertLevel(VISIBLE, 2, [4, 3], **options)
    layer.build([None, *shape])
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer, tf.constant(rng.normal(size=[7, *shape]), tf.float32)


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def softmax(scores):
    exponential = np.exp(scores)
    return exponential / exponential.sum(axis=-1, keepdims=True)


def expert_outputs(layer, rows):
    """The experts one at a time, `[B, G, E, H]`; the last layer is normalised within a row."""
    down, up = layer.feature_gate.get_weights()
    first, bias, second, gamma, beta = [weight.numpy() for weight in named(layer.experts)]
    outputs = np.empty([len(rows[0]), 3, 2, 3])
    for number in range(6):
        row = rows[number // 2]
        view = row * 2 * sigmoid(row @ down[number] @ up[number])
        hidden = view @ first[number] + bias[number]
        hidden = hidden * sigmoid(hidden) @ second[number]
        mean, variance = hidden.mean(1, keepdims=True), hidden.var(1, keepdims=True)
        columns = slice(3 * number, 3 * number + 3)
        hidden = (hidden - mean) / np.sqrt(variance + 1e-5) * gamma[columns] + beta[columns]
        outputs[:, number // 2, number % 2] = hidden * sigmoid(hidden)
    return outputs


def named(experts):
    weights = {weight.name.split("/")[-1]: weight for weight in experts.trainable_weights}
    return [weights[f"{name}:0"] for name in ("kernel_0", "bias_0", "kernel_1", "gamma", "beta")]


@pytest.mark.parametrize("shape", [[5], [3, 5]])
def test_golden(shape):
    layer, inputs = level(shape)
    rows = [inputs.numpy()] * 3 if len(shape) == 1 else list(inputs.numpy().swapaxes(0, 1))
    groups = expert_outputs(layer, rows)
    received = layer(inputs).numpy()
    for number, seen in enumerate(VISIBLE):
        row, own = rows[seen[-1]], groups[:, seen[-1]]
        kernel, bias = layer.gates[number].get_weights()
        experts = np.concatenate([groups[:, group] for group in seen], axis=1)
        expected = np.einsum("bn,bnh->bh", softmax(row @ kernel + bias), experts)
        kernel, bias = layer.self_gates[number].get_weights()
        expected += np.einsum("be,beh->bh", softmax(row @ kernel + bias), own)
        np.testing.assert_allclose(received[:, number], expected, rtol=1e-4, atol=1e-4)


def test_an_output_does_not_feel_what_it_does_not_see():
    layer, inputs = level([3, 5])
    kernel = layer.experts.kernels[0]
    for number, seen in enumerate(VISIBLE):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(layer(inputs)[:, number] ** 2)
        of_inputs, of_kernel = tape.gradient(loss, [inputs, kernel])
        for group in range(3):
            assert bool(np.any(of_inputs[:, group])) == (group in seen)
            assert bool(np.any(of_kernel[2 * group : 2 * group + 2])) == (group in seen)


def test_experts_that_the_gate_passes_over_learn_through_the_self_gate():
    layer, inputs = level([5])
    # Output 1 gives all its weight to the experts of group 0; its own are those of group 1.
    layer.gates[1].set_weights([np.zeros([5, 4]), np.array([0, 0, -1e9, -1e9])])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(inputs)[:, 1] ** 2)
    gradient = tape.gradient(loss, layer.experts.kernels[0])
    assert np.all(np.abs(gradient[2:4]).max(axis=(1, 2)) > 0)


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_normalised_experts_are_of_one_scale(normalization):
    """What makes one expert a hundred times as loud leaves its output as it was."""
    layer, inputs = level([5], normalization=normalization)
    before = layer(inputs, training=True)
    kernel = layer.experts.kernels[-1]
    kernel.assign(kernel * np.array([100, 1, 1, 1, 1, 1])[:, np.newaxis, np.newaxis])
    np.testing.assert_allclose(layer(inputs, training=True), before, atol=1e-3)


@pytest.mark.parametrize("kernel", [0, 1])
def test_experts_differ_at_the_start(kernel):
    layer = ExpertLevel(VISIBLE, 2, [8, 8])
    layer.build([None, 16])
    assert_experts_differ(layer.experts.kernels[kernel].numpy())


@pytest.mark.parametrize("normalization", ["batch", "layer"])
@pytest.mark.parametrize("shape", [[5, 4], [5, 3, 4]])
def test_as_a_layer(normalization, shape):
    inputs = tf.constant(np.random.default_rng(3).normal(size=shape), tf.float32)
    outputs = run_layer_test(
        lambda: ExpertLevel(
            VISIBLE,
            2,
            [6, 8],
            gate_units=[3],
            rank=2,
            normalization=normalization,
            dropout=0.1,
            l2=0.1,
        ),
        inputs,
    )
    assert outputs.shape == (5, 3, 8)


@pytest.mark.parametrize("visible", [[], [[0], []], [[0, 2]], [[1]]])
def test_refuses_groups_that_nobody_sees(visible):
    with pytest.raises(ValueError, match="seen by some output; received "):
        ExpertLevel(visible, 2, [4])


def test_refuses_empty_groups():
    with pytest.raises(ValueError, match="at least one expert of a group; received 0"):
        ExpertLevel(VISIBLE, 0, [4])


@pytest.mark.parametrize("k", [1, 6])
@pytest.mark.parametrize("shape", [[40, 4], [40, 3, 4]])
def test_as_a_layer_whose_gates_choose(k, shape):
    inputs = tf.constant(np.random.default_rng(3).normal(size=shape), tf.float32)
    outputs = run_layer_test(
        lambda: ExpertLevel(
            VISIBLE, 2, [6, 8], rank=2, normalization="layer", dropout=0.1, l2=0.1, k=k
        ),
        inputs,
        # In half precision a row may go to another expert of nearly equal probability.
        half_tolerance=2e-2 if k == 6 else np.inf,
    )
    assert outputs.shape == (40, 3, 8)


@pytest.mark.parametrize("experts", [1, 2])
@pytest.mark.parametrize("shape", [[5, 4], [5, 3, 4]])
def test_all_experts_chosen_equal_dense_ones(experts, shape):
    inputs = tf.constant(np.random.default_rng(3).normal(size=shape), tf.float32)
    dense = ExpertLevel(VISIBLE, experts, [6, 8], normalization="layer")
    chosen = ExpertLevel(VISIBLE, experts, [6, 8], normalization="layer", k=3 * experts)
    for layer in (dense, chosen):
        layer.build(inputs.shape)
    rng = np.random.default_rng(4)
    dense.set_weights([rng.normal(scale=0.5, size=weight.shape) for weight in dense.weights])
    chosen.set_weights(dense.get_weights())
    np.testing.assert_allclose(chosen(inputs), dense(inputs), rtol=1e-4, atol=1e-5)


def test_gates_do_not_choose_among_experts_normalised_over_all_rows():
    with pytest.raises(ValueError, match="received 'batch', whose statistics need all rows: take"):
        ExpertLevel(VISIBLE, 2, [4], k=1)
