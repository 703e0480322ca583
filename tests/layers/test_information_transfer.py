import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import InformationTransfer
from tfmtl.testing import run_layer_test

KEY, QUERY, VALUE = [[1, 0], [0, 2]], [[1, 1], [0, 1]], [[2, 0], [1, 3]]


def transfer(key=KEY, query=QUERY, value=VALUE, **options):
    layer = InformationTransfer(**options)
    layer.build([None, 2])
    layer.set_weights([np.array(weight, np.float32) for weight in (key, query, value)])
    return layer


def test_equal_states_count_half_each():
    q = tf.constant([[3.0, -5.0], [0.5, 1.0]])
    np.testing.assert_allclose(transfer()(q, q), q @ tf.constant(VALUE, tf.float32), rtol=1e-6)


def test_golden():
    # p = [1, 0]: key [1, 0], query [1, 1], score 1 / sqrt 2, value [2, 0].
    # q = [0, 1]: key [0, 2], query [0, 1], score 2 / sqrt 2, value [1, 3].
    received = transfer()(tf.constant([[1.0, 0.0]]), tf.constant([[0.0, 1.0]]))
    own = 1 / (1 + math.exp(-1 / math.sqrt(2)))
    np.testing.assert_allclose(received, [[2 - own, 3 * own]], rtol=1e-6)


def test_scores_are_per_row():
    p, q = tf.constant([[1.0, 0.0], [0.0, 9.0]]), tf.constant([[0.0, 1.0], [1.0, 0.0]])
    both = transfer()(p, q)
    # Score 162 against 1: all of p's value, nine times that of [0, 1].
    np.testing.assert_allclose(both[1], [9, 27], rtol=1e-6)
    np.testing.assert_allclose(both[:1], transfer()(p[:1], q[:1]), rtol=1e-6)


def test_scores_beyond_half_precision():
    layer = transfer(dtype="mixed_float16")
    received = layer(tf.constant([[300.0, 0.0]]), tf.constant([[0.0, 300.0]]))
    # 300^2 = 90000 is infinite in half precision, and the softmax of two infinities NaN.
    np.testing.assert_allclose(received, [[300, 900]], rtol=1e-3)


def test_penalty_is_on_all_three_kernels():
    layer = transfer(l2=0.5)
    assert float(tf.add_n(layer.losses)) == pytest.approx(0.5 * (1 + 4 + 1 + 1 + 1 + 4 + 1 + 9))


def test_as_a_layer():
    rng = np.random.default_rng(3)
    p, q = (tf.constant(rng.normal(size=[5, 4]), tf.float32) for _ in "pq")
    assert run_layer_test(lambda: InformationTransfer(l2=0.1), p, q).shape == (5, 4)
