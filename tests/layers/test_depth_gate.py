import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.layers import DepthGate
from tfmtl.testing import run_layer_test

LN3, A = math.log(3), math.atanh(0.5)


def step(weights, message, state, cell, **options):
    layer = DepthGate(**options)
    layer.build([None, len(message)])
    layer.set_weights([np.array(weight, np.float32) for weight in weights])
    return layer(*(tf.constant([part], tf.float32) for part in (message, state, cell)))


def test_lstm():
    # m = 1, h = 2, C = 4, gates in the order i, f, o, c:
    # i: ln 3 + 0 = ln 3, sigmoid 3/4           f: -3 + 2 + 1 (bias) = 0, sigmoid 1/2
    # o: ln 3 - 2 ln 3 = -ln 3, sigmoid 1/4     c: 3 A - 2 A = A, tanh 1/2
    # C' = 1/2 * 4 + 3/4 * 1/2 = 19/8, h' = 1/4 tanh(19/8).
    state, cell = step(
        [[[LN3, -3, LN3, 3 * A]], [[0, 1, -LN3, -A]], [0, 1, 0, 0]], [1.0], [2.0], [4.0]
    )
    assert cell.numpy().item() == pytest.approx(19 / 8)
    assert state.numpy().item() == pytest.approx(math.tanh(19 / 8) / 4)


def test_geniepath_has_neither_state_nor_bias():
    # i 3/4, f sigmoid(0) = 1/2, o 1/4, c 1/2, whatever h is: as above.
    for before in (2.0, -5.0):
        state, cell = step([[[LN3, 0, -LN3, A]]], [1.0], [before], [4.0], depth="geniepath")
        assert cell.numpy().item() == pytest.approx(19 / 8)
        assert state.numpy().item() == pytest.approx(math.tanh(19 / 8) / 4)


def test_lstm_equals_the_cell_of_keras():
    rng = np.random.default_rng(0)
    message, state, cell = tf.unstack(tf.constant(rng.normal(size=[3, 5, 4]), tf.float32))
    layer, reference = DepthGate(), keras.layers.LSTMCell(4)
    layer.build([None, 4])
    reference.build([None, 4])
    # Keras orders the blocks i, f, c, o.
    order = np.r_[0:8, 12:16, 8:12]
    reference.set_weights([weight[..., order] for weight in layer.get_weights()])
    _, (next_state, next_cell) = reference(message, [state, cell])
    received = layer(message, state, cell)
    np.testing.assert_allclose(received[0], next_state, atol=1e-6)
    np.testing.assert_allclose(received[1], next_cell, atol=1e-6)


def test_forget_bias_starts_at_one():
    layer = DepthGate()
    layer.build([None, 2])
    assert layer.get_weights()[2].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_a_node_without_messages_keeps_its_embedding():
    # m = 0 and no W_h: i = o = 1/2, c = 0, f = sigmoid(1): C' = sigmoid(1) h, h' = tanh(C') / 2.
    h = [0.3, -2.0]
    state, cell = step([np.ones([2, 8]), np.zeros([2, 8]), [0, 0, 1, 1, 0, 0, 0, 0]], [0, 0], h, h)
    kept = np.array([h]) / (1 + math.exp(-1))
    np.testing.assert_allclose(cell, kept, rtol=1e-6)
    np.testing.assert_allclose(state, np.tanh(kept) / 2, rtol=1e-6)


@pytest.mark.parametrize("depth", ["lstm", "geniepath"])
def test_as_a_layer(depth):
    rng = np.random.default_rng(1)
    parts = [tf.constant(rng.normal(size=[5, 3]), tf.float32) for _ in range(3)]
    state, cell = run_layer_test(lambda: DepthGate(depth=depth, l2=0.1), *parts)
    assert state.shape == cell.shape == (5, 3)


def test_takes_full_precision_states_under_a_half_policy():
    ones = tf.ones([2, 3])
    state, cell = DepthGate(dtype="mixed_float16")(ones, ones, ones)
    assert state.dtype == cell.dtype == tf.float16


def test_refuses_an_unknown_depth():
    with pytest.raises(ValueError, match="expected depth 'lstm' or 'geniepath'; received 'gru'"):
        DepthGate(depth="gru")
