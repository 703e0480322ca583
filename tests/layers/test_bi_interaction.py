import numpy as np
import tensorflow as tf

from tfmtl.layers import BiInteraction
from tfmtl.testing import run_layer_test


def layer_with(first, second):
    layer = BiInteraction()
    layer.build([None, 2])
    layer.set_weights([np.array(first, np.float32), np.array(second, np.float32)])
    return layer


def test_golden():
    # h = [1, 2], m = [3, -1]: h + m = [4, 1], m * h = [3, -2].
    # [4, 1] W_1 = [4 + 1, 8 - 1] = [5, 7]; [3, -2] W_2 = [0 + 2, -9 - 2] = [2, -11].
    # Sum [7, -4]; LeakyReLU multiplies negatives by 0.2.
    layer = layer_with([[1, 2], [1, -1]], [[0, -3], [-1, 1]])
    received = layer(tf.constant([[1.0, 2.0]]), tf.constant([[3.0, -1.0]]))
    np.testing.assert_allclose(received, [[7, -0.8]], rtol=1e-6)


def test_a_node_without_messages_keeps_its_own_part():
    # W_1 h = [1 + 2, 2 - 2] = [3, 0].
    layer = layer_with([[1, 2], [1, -1]], [[5, 5], [5, 5]])
    received = layer(tf.constant([[1.0, 2.0]]), tf.zeros([1, 2]))
    np.testing.assert_allclose(received, [[3, 0]], atol=1e-6)


def test_matrices_differ_at_the_start():
    layer = BiInteraction()
    layer.build([None, 8])
    assert np.abs(np.subtract(*layer.get_weights())).min() > 0


def test_as_a_layer():
    rng = np.random.default_rng(0)
    states, messages = (tf.constant(rng.normal(size=[5, 4]), tf.float32) for _ in range(2))
    run_layer_test(lambda: BiInteraction(l2=0.1), states, messages)
