import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import FeatureGate
from tfmtl.testing import assert_experts_differ, run_layer_test

LN3 = math.log(3)


def golden():
    layer = FeatureGate(2, rank=1)
    layer.build([None, 2])
    down = [[[1.0], [0.0]], [[0.0], [1.0]]]
    up = [[[LN3 / 2, 0.0]], [[0.0, -LN3 / 5]]]
    layer.set_weights([np.array(down), np.array(up)])
    return layer


def test_golden():
    # x = [2, 5]. Gate 0: x B = 2, scores [ln 3, 0], twice the sigmoids [3/2, 1].
    # Gate 1: x B = 5, scores [0, -ln 3], twice the sigmoids [1, 1/2].
    received = golden()(tf.constant([[2.0, 5.0]]))
    np.testing.assert_allclose(received, [[[3.0, 5.0], [2.0, 2.5]]], rtol=1e-6)


def test_each_gate_may_read_a_vector_of_its_own():
    # Gate 0 on [2, 5] as above; gate 1 on [7, -5]: scores [0, ln 3].
    received = golden()(tf.constant([[[2.0, 5.0], [7.0, -5.0]]]))
    np.testing.assert_allclose(received, [[[3.0, 5.0], [7.0, -7.5]]], rtol=1e-6)


def test_lets_features_pass_at_the_start():
    inputs = tf.constant(0.1 * np.random.default_rng(0).normal(size=[50, 32]), tf.float32)
    received = FeatureGate(3)(inputs)
    np.testing.assert_allclose(received / inputs[:, tf.newaxis], np.ones([50, 3, 32]), atol=0.3)


def test_gates_differ_at_the_start():
    layer = FeatureGate(4, rank=3)
    layer.build([None, 8])
    for factor in layer.get_weights():
        assert_experts_differ(factor)


def test_penalty_is_on_both_factors():
    layer = FeatureGate(1, rank=1, l2=0.5)
    layer.build([None, 2])
    layer.set_weights([np.array([[[1.0], [2.0]]]), np.array([[[3.0, 0.0]]])])
    assert float(tf.add_n(layer.losses)) == pytest.approx(0.5 * (1 + 4 + 9))


@pytest.mark.parametrize("shape", [[5, 4], [5, 3, 4]])
def test_as_a_layer(shape):
    inputs = tf.constant(np.random.default_rng(3).normal(size=shape), tf.float32)
    outputs = run_layer_test(lambda: FeatureGate(3, rank=2, l2=0.1), inputs)
    assert outputs.shape == (5, 3, 4)


@pytest.mark.parametrize(("gates", "rank"), [(0, 1), (1, 0)])
def test_refuses_empty_gates(gates, rank):
    with pytest.raises(ValueError, match=f"received num_gates={gates}, rank={rank}"):
        FeatureGate(gates, rank=rank)
