import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import SelfGate
from tfmtl.testing import run_layer_test

LN3 = math.log(3)


def gate(experts, kernel, bias, **options):
    layer = SelfGate(experts, **options)
    layer.build([None, len(kernel)])
    layer.set_weights([np.array(kernel), np.array(bias)])
    return layer


def test_several_experts_share_a_softmax():
    # [1, 2] gives ln 3 and 0: 3/4 of [8, 4] and 1/4 of [0, 12].
    layer = gate(2, [[LN3, 2], [0, -1]], [0, 0])
    experts = tf.constant([[[8.0, 4.0], [0.0, 12.0]]])
    np.testing.assert_allclose(layer(tf.constant([[1.0, 2.0]]), experts), [[6, 6]], rtol=1e-6)


def test_a_single_expert_has_a_sigmoid():
    # 2 gives ln 3 and -ln 3: 3/4 and 1/4 of [8, 4].
    layer = gate(1, [[LN3 / 2]], [0])
    experts = tf.constant([[[8.0, 4.0]], [[8.0, 4.0]]])
    received = layer(tf.constant([[2.0], [-2.0]]), experts)
    np.testing.assert_allclose(received, [[6, 3], [2, 1]], rtol=1e-6)


def test_the_softmax_is_in_full_precision_under_a_half_policy():
    layer = gate(2, [[20.0, 0.0]], [0, 0], dtype="mixed_float16")
    experts = tf.constant([[[0.0], [6e4]]], tf.float16)
    # exp(-20) = 2e-9 is 0 in half precision: its expert would be cut off from the gradient.
    with tf.GradientTape() as tape:
        scores = layer._scores.trainable_weights[1]
        output = layer(tf.constant([[1.0]], tf.float16), experts)
    assert output.dtype == tf.float16
    assert float(tape.gradient(output, scores)[1]) > 0


@pytest.mark.parametrize("experts", [1, 3])
def test_as_a_layer(experts):
    rng = np.random.default_rng(3)
    inputs = [tf.constant(rng.normal(size=s), tf.float32) for s in ([5, 4], [5, experts, 2])]
    outputs = run_layer_test(lambda: SelfGate(experts, l2=0.1), *inputs)
    assert outputs.shape == (5, 2)


def test_refuses_no_experts():
    with pytest.raises(ValueError, match="expected at least one expert; received 0"):
        SelfGate(0)
