import math

import numpy as np
import tensorflow as tf

from tfmtl.layers.rotary_positions import rotary_positions


def test_golden():
    # Width 4, base 100: pairs (0, 2) turn by 1 and pairs (1, 3) by 100^(-2/4) = 0.1 per position.
    received = rotary_positions(tf.constant([[1.0, 2.0, 0.0, 3.0]] * 3), base=100.0)
    for position, row in enumerate(received.numpy()):
        fast, slow = position * 1.0, position * 0.1
        expected = [
            math.cos(fast),
            2 * math.cos(slow) - 3 * math.sin(slow),
            math.sin(fast),
            3 * math.cos(slow) + 2 * math.sin(slow),
        ]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)


def test_products_depend_on_differences_of_positions_only():
    rng = np.random.default_rng(3)
    query, key = (tf.constant(rng.normal(size=[1, 6]), tf.float32) for _ in "qk")
    # The same query and key in every position: one number per diagonal.
    scores = tf.matmul(
        rotary_positions(tf.repeat(query, 9, axis=0)),
        rotary_positions(tf.repeat(key, 9, axis=0)),
        transpose_b=True,
    ).numpy()
    for difference in range(-8, 9):
        diagonal = np.diagonal(scores, difference)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-5)
    assert np.ptp(scores[0]) > 0.1


def test_lengths_of_vectors_stay():
    states = tf.constant(np.random.default_rng(3).normal(size=[2, 3, 7, 4]), tf.float32)
    received = rotary_positions(states)
    np.testing.assert_allclose(
        np.linalg.norm(received, axis=-1), np.linalg.norm(states, axis=-1), rtol=1e-5
    )
    np.testing.assert_array_equal(received[:, :, 0], states[:, :, 0])


def test_length_may_be_unknown():
    states = tf.constant(np.random.default_rng(3).normal(size=[2, 5, 4]), tf.float32)
    dynamic = tf.function(
        rotary_positions, input_signature=[tf.TensorSpec([None, None, 4], tf.float32)]
    )
    np.testing.assert_allclose(dynamic(states), rotary_positions(states), rtol=1e-6)
