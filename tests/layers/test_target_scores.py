import math

import numpy as np
import tensorflow as tf

from tfmtl.layers.target_scores import target_scores

NEIGHBORS = tf.constant([[1.0, 0.0], [0.0, 2.0]])
TARGETS = tf.constant([[1.0, -1.0], [0.0, 3.0]])
QUERY = tf.constant([[1.0, 2.0, 0.0], [0.0, 1.0, 5.0]])
KEY = tf.constant([[2.0, 1.0, 1.0], [1.0, 0.0, 4.0]])
# Queries [1, 2, 0] and [0, 2, 10]; keys [1, 1, -3] and [3, 0, 12].
EXPECTED = np.array([[3, -28], [3, 120]]) / math.sqrt(3)


def test_neighbors_that_rows_share():
    np.testing.assert_allclose(target_scores(NEIGHBORS, TARGETS, QUERY, KEY), EXPECTED, rtol=1e-6)


def test_neighbors_of_their_own():
    neighbors = tf.stack([NEIGHBORS, NEIGHBORS[::-1]])
    received = target_scores(neighbors, TARGETS, QUERY, KEY)
    np.testing.assert_allclose(received, [EXPECTED[0], EXPECTED[1, ::-1]], rtol=1e-6)


def test_half_precision_inputs_give_full_precision_scores():
    half = [tf.cast(part, tf.float16) for part in (300 * NEIGHBORS, 300 * TARGETS, QUERY, KEY)]
    received = target_scores(*half)
    assert received.dtype == tf.float32
    np.testing.assert_allclose(received, 90_000 * EXPECTED, rtol=1e-3)
