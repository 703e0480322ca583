import numpy as np
import tensorflow as tf

from tfmtl.layers.masked_softmax import masked_softmax


def test_only_elements_of_the_mask_share():
    scores = tf.math.log([[1.0, 5.0, 3.0], [1.0, 5.0, 3.0]])
    mask = tf.constant([[True, False, True], [True, True, True]])
    np.testing.assert_allclose(
        masked_softmax(scores, mask), [[1 / 4, 0, 3 / 4], [1 / 9, 5 / 9, 3 / 9]], rtol=1e-6
    )


def test_scores_outside_the_mask_may_be_as_large_as_they_like():
    received = masked_softmax(tf.constant([[1e38, -1e38, -1e38]]), tf.constant([False, True, True]))
    np.testing.assert_allclose(received, [[0, 0.5, 0.5]])


def test_an_empty_row_is_zero_and_has_no_gradient():
    scores = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    mask = tf.constant([[False, False], [True, True]])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        outputs = masked_softmax(scores, mask)
        loss = tf.reduce_sum(outputs * [1.0, 5.0])
    np.testing.assert_array_equal(outputs[0], [0, 0])
    gradient = tape.gradient(loss, scores).numpy()
    np.testing.assert_array_equal(gradient[0], [0, 0])
    assert (gradient[1] != 0).all()
