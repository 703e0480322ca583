import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import CrossStitchUnit
from tfmtl.testing import run_layer_test


def stitched(alpha, inputs, **options):
    layer = CrossStitchUnit(**options)
    layer.build(np.shape(inputs))
    layer.set_weights([np.array(alpha, np.float32)])
    return layer(tf.constant(inputs, tf.float32))


def test_golden():
    # Task 0: 2 [1, 2] + 3 [10, 20]; task 1: -1 [1, 2] + 0.5 [10, 20].
    received = stitched([[2, 3], [-1, 0.5]], [[[1, 2], [10, 20]]])
    np.testing.assert_allclose(received, [[[32, 64], [4, 8]]], rtol=1e-6)


def test_golden_per_channel():
    # Task 0: [2 * 1 + 3 * 10, 0 * 2 + 1 * 20]; task 1: [-1 * 1 + 0 * 10, 5 * 2 - 2 * 20].
    alpha = [[[2, 0], [3, 1]], [[-1, 5], [0, -2]]]
    received = stitched(alpha, [[[1, 2], [10, 20]]], per_channel=True)
    np.testing.assert_allclose(received, [[[32, 20], [-1, -30]]], rtol=1e-6)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(
    ("tasks", "alpha"),
    [
        (1, [[1]]),
        (2, [[0.9, 0.1], [0.1, 0.9]]),
        (3, [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]]),
    ],
)
def test_starts_mostly_with_the_own_activations(tasks, alpha, per_channel):
    layer = CrossStitchUnit(per_channel=per_channel)
    layer.build([None, tasks, 4])
    expected = np.repeat(np.array(alpha)[..., np.newaxis], 4, axis=2) if per_channel else alpha
    (received,) = layer.get_weights()
    assert received.shape == np.shape(expected)
    np.testing.assert_allclose(received, expected, rtol=1e-6)


@pytest.mark.parametrize("per_channel", [False, True])
def test_as_a_layer(per_channel):
    inputs = tf.constant(np.random.default_rng(3).normal(size=[5, 3, 4]), tf.float32)
    outputs = run_layer_test(lambda: CrossStitchUnit(per_channel=per_channel), inputs)
    assert outputs.shape == (5, 3, 4)


@pytest.mark.parametrize("shape", [[5, 4], [5, None, 4], [5, 3, None]])
def test_refuses_inputs_of_unknown_tasks(shape):
    with pytest.raises(ValueError, match=r"expected inputs \[B, T, D\] .*; received \(5, .*stack"):
        CrossStitchUnit().build(shape)
