import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import Extraction
from tfmtl.testing import run_layer_test


def randomized(layer, *shapes, seed=0):
    rng = np.random.default_rng(seed)
    layer.build([None, *shapes[0]])
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    return [tf.constant(rng.normal(size=[7, *shape]), tf.float32) for shape in shapes]


def softmax(scores):
    exponential = np.exp(scores)
    return exponential / exponential.sum(axis=-1, keepdims=True)


def test_golden():
    layer = Extraction(2, 1, 1, [1])
    layer.build([None, 2, 1])
    layer.specific_experts.set_weights([np.array([[[2.0]], [[5.0]]]), np.zeros([2, 1])])
    layer.shared_experts.set_weights([np.array([[[4.0]]]), np.zeros([1, 1])])
    layer.gates[0].set_weights([np.array([[math.log(3), 0]]), np.zeros(2)])
    layer.gates[1].set_weights([np.array([[0, math.log(3) / 2]]), np.zeros(2)])
    layer.shared_gate.set_weights([np.array([[0, math.log(2) / 3, math.log(5) / 3]]), np.zeros(3)])
    # x = 1, 2 and 3: experts 2, 10 and 12. Task 0: 3/4 2 + 1/4 12. Task 1: 1/4 10 + 3/4 12.
    # Shared: 1/8 2 + 2/8 10 + 5/8 12.
    tasks, shared = layer(tf.constant([[[1.0], [2.0]]]), tf.constant([[3.0]]))
    np.testing.assert_allclose(tasks, [[[4.5], [11.5]]], rtol=1e-6)
    np.testing.assert_allclose(shared, [[10.25]], rtol=1e-6)


def test_equals_a_loop_over_tasks():
    layer = Extraction(3, 2, 1, [4, 5], gate_units=[3])
    tasks, shared = randomized(layer, [3, 6], [6])
    received = layer(tasks, shared)
    specific = layer.specific_experts(tasks).numpy()
    common = layer.shared_experts(shared).numpy()
    for task in range(3):
        visible = np.concatenate([specific[:, task], common], axis=1)
        gate = layer.gates[task](tasks[:, task]).numpy()
        expected = np.einsum("bn,bnh->bh", gate, visible)
        np.testing.assert_allclose(received[0][:, task], expected, rtol=1e-5, atol=1e-5)
    everyone = np.concatenate([*(specific[:, task] for task in range(3)), common], axis=1)
    gate = layer.shared_gate(shared).numpy()
    expected = np.einsum("bn,bnh->bh", gate, everyone)
    np.testing.assert_allclose(received[1], expected, rtol=1e-5, atol=1e-5)


def test_a_common_input_is_that_of_every_task():
    layer = Extraction(3, 2, 2, [4], gate_units=[3])
    row, shared = randomized(layer, [6], [6])
    alike = tf.repeat(row[:, tf.newaxis], 3, axis=1)
    for one, other in zip(layer(row, shared), layer(alike, shared), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_the_last_layer_has_no_shared_output():
    last, layer = Extraction(2, 1, 1, [4], shared_output=False), Extraction(2, 1, 1, [4])
    tasks, shared = randomized(last, [2, 6], [6])
    layer.build([None, 2, 6])
    surplus = {w.name for w in layer.weights} - {w.name for w in last.weights}
    assert surplus == {"shared_gate/scores/kernel:0", "shared_gate/scores/bias:0"}
    layer.set_weights([*last.get_weights(), *layer.shared_gate.get_weights()])
    np.testing.assert_array_equal(last(tasks, shared), layer(tasks, shared)[0])


def test_a_task_reads_its_own_input_experts_and_gate_only():
    layer = Extraction(3, 2, 1, [4])
    tasks, shared = randomized(layer, [3, 6], [6])
    gates = [gate.trainable_weights for gate in layer.gates]
    for task in range(3):
        with tf.GradientTape() as tape:
            tape.watch(tasks)
            loss = tf.reduce_sum(layer(tasks, shared)[0][:, task] ** 2)
        kernel = layer.specific_experts.kernels[0]
        of_inputs, of_kernel, of_gates = tape.gradient(loss, [tasks, kernel, gates])
        felt = [bool(np.any(of_inputs[:, other])) for other in range(3)]
        assert felt == [other == task for other in range(3)]
        moved = [bool(np.any(of_kernel[2 * other : 2 * other + 2])) for other in range(3)]
        assert moved == felt
        assert [bool(np.any(kernel)) for kernel, _ in of_gates] == felt


def test_takes_a_full_precision_input_under_a_half_policy():
    layer = Extraction(2, 1, 1, [4], dtype="mixed_float16")
    outputs = layer(tf.ones([3, 2, 6]), tf.ones([3, 6]))
    assert [output.dtype for output in outputs] == [tf.float16, tf.float16]


@pytest.mark.parametrize("shape", [[5, 4], [5, 3, 4]])
@pytest.mark.parametrize("shared_output", [True, False])
def test_as_a_layer(shape, shared_output):
    rng = np.random.default_rng(3)
    inputs = [tf.constant(rng.normal(size=size), tf.float32) for size in (shape, [5, 4])]
    outputs = run_layer_test(
        lambda: Extraction(
            3, 2, 1, [6, 2], gate_units=[3], shared_output=shared_output, dropout=0.1, l2=0.1
        ),
        *inputs,
    )
    tasks = outputs[0] if shared_output else outputs
    assert tasks.shape == (5, 3, 2)


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_refuses_to_be_without_experts(numbers):
    tasks, specific, shared = numbers
    message = (
        f"received num_tasks={tasks}, num_specific_experts={specific}, num_shared_experts={shared}"
    )
    with pytest.raises(ValueError, match=message):
        Extraction(*numbers, [4])


@pytest.mark.parametrize("shape", [[40, 4], [40, 3, 4]])
@pytest.mark.parametrize(("shared_output", "k"), [(True, 7), (True, 1), (False, 2)])
def test_as_a_layer_whose_gates_choose(shape, shared_output, k):
    rng = np.random.default_rng(3)
    inputs = [tf.constant(rng.normal(size=size), tf.float32) for size in (shape, [40, 4])]
    outputs = run_layer_test(
        lambda: Extraction(3, 2, 1, [6, 2], shared_output=shared_output, l2=0.1, k=k),
        *inputs,
        # In half precision a row may go to another expert of nearly equal probability.
        half_tolerance=2e-2 if k == 7 else np.inf,
    )
    tasks = outputs[0] if shared_output else outputs
    assert tasks.shape == (40, 3, 2)


@pytest.mark.parametrize("shape", [[5, 4], [5, 3, 4]])
def test_all_experts_chosen_equal_dense_ones(shape):
    rng = np.random.default_rng(3)
    inputs = [tf.constant(rng.normal(size=size), tf.float32) for size in (shape, [5, 4])]
    dense, chosen = (Extraction(3, 2, 1, [6, 2], k=k) for k in (None, 7))
    for layer in (dense, chosen):
        layer.build(inputs[0].shape)
    dense.set_weights([rng.normal(size=weight.shape) for weight in dense.weights])
    chosen.set_weights(dense.get_weights())
    for left, right in zip(chosen(*inputs), dense(*inputs), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
