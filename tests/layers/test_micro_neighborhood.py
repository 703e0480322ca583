import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import MicroNeighborhood
from tfmtl.testing import run_layer_test

QUERY, KEY, VALUE = [[1, 2], [0, 1]], [[2, 1], [1, 0]], [[1, 0], [4, -1]]
# Values [1, 0] and [8, -2]; scores against the target [1, -1] are 3 and 2 over sqrt 2.
NEIGHBORS = tf.constant([[[1.0, 0.0], [0.0, 2.0], [50.0, 70.0]]])
TARGET = tf.constant([[1.0, -1.0]])
MASK = tf.constant([[True, True, False]])


def neighborhood(query=QUERY, **options):
    layer = MicroNeighborhood(2, **options)
    layer.build([None, 3, 2])
    layer.set_weights([np.array(weight, np.float32) for weight in (query, KEY, VALUE)])
    return layer


def test_golden():
    # Merged scores 3 and 0 at temperature 2: log(4) / 2 = ln 2 more for the first neighbour.
    log_scores = tf.math.log1p([[3.0, 0.0, 900.0]])
    first = 1 / (1 + math.exp(-1 / math.sqrt(2)) / 2)
    received = neighborhood(tau=2.0)(NEIGHBORS, TARGET, log_scores, MASK)
    expected = [[first + 8 * (1 - first), -2 * (1 - first)]]
    np.testing.assert_allclose(received, expected, rtol=1e-6)


def test_scores_alone_weigh_where_attention_tells_nothing():
    log_scores = tf.math.log1p([[1.0, 5.0, 900.0]])
    layer = neighborhood(query=[[0, 0], [0, 0]], tau=1.0)
    # 2 and 6 of 8: 1/4 [1, 0] + 3/4 [8, -2].
    received = layer(NEIGHBORS, TARGET, log_scores, MASK)
    np.testing.assert_allclose(received, [[6.25, -1.5]], rtol=1e-6)


def test_rows_without_a_neighbor_are_zero_with_finite_gradients():
    rng = np.random.default_rng(3)
    neighbors, target, log_scores = (
        tf.constant(rng.normal(size=shape), tf.float32) for shape in ([2, 3, 2], [2, 2], [2, 3])
    )
    mask = tf.constant([[False, False, False], [True, False, True]])
    layer = neighborhood()
    with tf.GradientTape() as tape:
        tape.watch([neighbors, target, log_scores])
        outputs = layer(neighbors, target, log_scores, mask)
        loss = tf.reduce_sum(outputs**2)
    np.testing.assert_array_equal(outputs[0], [0, 0])
    sources = [neighbors, target, log_scores, *layer.trainable_weights]
    for gradient in tape.gradient(loss, sources):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


def test_scores_beyond_half_precision():
    layer = neighborhood(dtype="mixed_float16")
    received = layer(NEIGHBORS, 1e5 * TARGET, tf.zeros([1, 3]), MASK)
    np.testing.assert_allclose(received, [[1, 0]], rtol=1e-3)


def test_penalty_is_on_all_kernels():
    # 1 + 4 + 1, 4 + 1 + 1 and 1 + 16 + 1.
    assert float(tf.add_n(neighborhood(l2=0.5).losses)) == pytest.approx(0.5 * 30)


def test_as_a_layer():
    rng = np.random.default_rng(3)
    neighbors, target, log_scores = (
        tf.constant(rng.normal(size=shape), tf.float32) for shape in ([5, 6, 4], [5, 4], [5, 6])
    )
    mask = tf.range(6) < tf.constant([[0], [6], [3], [1], [2]])
    outputs = run_layer_test(
        lambda: MicroNeighborhood(8, tau=0.7, l2=0.1), neighbors, target, log_scores, mask
    )
    assert outputs.shape == (5, 8)


@pytest.mark.parametrize("options", [{"units": 0}, {"units": 4, "tau": 0.0}])
def test_refuses_numbers_out_of_range(options):
    with pytest.raises(ValueError, match="expected positive units and a positive tau; received u"):
        MicroNeighborhood(**options)
