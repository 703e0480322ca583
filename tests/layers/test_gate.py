import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import Gate, Recording
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


def choosing(k, **options):
    # Scores ln 2, 0, ln 5 for [1, 2]: probabilities 2/8, 1/8, 5/8.
    return gate([[[math.log(2), 3, 0], [0, -3, math.log(5) / 2]], [0, 3, 0]], 3, k=k, **options)


@pytest.mark.parametrize(
    ("k", "experts", "weights"),
    [
        # A single choice counts its probability, through which the task trains the gate.
        (1, [2], [5 / 8]),
        (2, [2, 0], [5 / 7, 2 / 7]),
        (3, [2, 0, 1], [5 / 8, 2 / 8, 1 / 8]),
        # More than there are: all.
        (9, [2, 0, 1], [5 / 8, 2 / 8, 1 / 8]),
    ],
)
def test_chooses_the_most_probable_experts(k, experts, weights):
    routing = choosing(k)(tf.constant([[1.0, 2.0]]))
    np.testing.assert_array_equal(routing.experts, [experts])
    np.testing.assert_allclose(routing.weights, [weights], rtol=1e-6)
    np.testing.assert_allclose(routing.probabilities, [[2 / 8, 1 / 8, 5 / 8]], rtol=1e-6)


def test_a_gate_that_chooses_has_losses():
    layer = choosing(2, balance_weight=0.5, z_weight=0.25)
    layer(tf.constant([[1.0, 2.0]]))
    # L_bal = 3 (1/2 * 2/8 + 1/2 * 5/8) = 21/16; L_z = (ln 8)^2.
    assert [float(loss) for loss in layer.losses] == pytest.approx(
        [0.5 * 21 / 16 + 0.25 * math.log(8) ** 2]
    )
    plain = choosing(None)
    plain(tf.constant([[1.0, 2.0]]))
    assert plain.losses == []


@pytest.mark.parametrize(("k", "shares"), [(1, [0, 0, 1]), (2, [2 / 7, 0, 5 / 7])])
def test_a_recording_sees_what_the_chosen_contribute(k, shares):
    with Recording() as recording:
        choosing(k, expert_names=["a", "b", "c"])(tf.constant([[1.0, 2.0]]))
    (recorded,) = recording.gates
    assert recorded.experts == ("a", "b", "c")
    np.testing.assert_allclose(recorded.weights, [shares], rtol=1e-6)


@pytest.mark.parametrize("k", [1, 2])
def test_as_a_layer_that_chooses(k):
    inputs = tf.constant(np.random.default_rng(3).normal(size=[5, 4]), tf.float32)
    routing = run_layer_test(lambda: Gate(3, k=k, balance_weight=0.5, z_weight=0.1), inputs)
    assert routing.experts.shape == routing.weights.shape == (5, k)


def test_refuses_to_choose_none():
    with pytest.raises(ValueError, match="expected k of at least 1; received 0: take None"):
        Gate(3, k=0)
