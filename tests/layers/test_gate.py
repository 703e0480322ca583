import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import Gate
from tfmtl.testing import run_layer_test


def gate(weights, experts, **options):
    layer = Gate(experts, **options)
    layer.build([None, 2])
    layer.set_weights([np.array(weight, np.float32) for weight in weights])
    return layer


def test_linear():
    # [1, 2] W + b = [ln 2 + 0, 3 - 6 + 3, 2 ln 4 - ln 4 ...]: scores ln 2, 0, ln 5.
    layer = gate([[[math.log(2), 3, 0], [0, -3, math.log(5) / 2]], [0, 3, 0]], 3)
    np.testing.assert_allclose(layer(tf.constant([[1.0, 2.0]])), [[2 / 8, 1 / 8, 5 / 8]], rtol=1e-6)


def test_hidden_layers():
    # [1, 2] . [[2], [-6]] = -10, LeakyReLU -2, plus nothing; scores -2 * [-ln 3 / 2, 0] = ln 3, 0.
    layer = gate([[[2], [-6]], [0], [[-math.log(3) / 2, 0]], [0, 0]], 2, units=[1])
    np.testing.assert_allclose(layer(tf.constant([[1.0, 2.0]])), [[3 / 4, 1 / 4]], rtol=1e-6)


def test_softmax_is_in_full_precision_under_a_half_policy():
    layer = Gate(2, dtype="mixed_float16")
    layer.build([None, 1])
    layer.set_weights([np.array([[20.0, 0.0]]), np.zeros(2)])
    received = layer(tf.constant([[1.0]]))
    # exp(-20) = 2e-9 is 0 in half precision, and its expert would never learn.
    assert received.dtype == tf.float32
    assert float(received[0, 1]) == pytest.approx(math.exp(-20), rel=1e-3)


@pytest.mark.parametrize("units", [[], [3, 4]])
def test_as_a_layer(units):
    inputs = tf.constant(np.random.default_rng(3).normal(size=[5, 4]), tf.float32)
    outputs = run_layer_test(lambda: Gate(3, units=units, l2=0.1), inputs)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-6)


def test_weights_have_names_of_their_own():
    layer = Gate(3, units=[4, 4])
    layer.build([None, 2])
    assert [w.name for w in layer.weights] == [
        f"{name}:0"
        for name in (
            "hidden/dense_0/kernel",
            "hidden/dense_0/bias",
            "hidden/dense_1/kernel",
            "hidden/dense_1/bias",
            "scores/kernel",
            "scores/bias",
        )
    ]


def test_refuses_no_experts():
    with pytest.raises(ValueError, match="expected at least one expert; received 0"):
        Gate(0)
