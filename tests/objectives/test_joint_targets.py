import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.objectives import joint_targets

NAN = math.nan


def targets(*columns):
    """Joint labels and weights of rows given as columns of (label, weight)."""
    labels, weights = joint_targets(
        [tf.constant([label for label, _ in column], tf.float32) for column in columns],
        [tf.constant([weight for _, weight in column], tf.float32) for column in columns],
    )
    assert labels.dtype == weights.dtype == tf.float32
    return labels.numpy().tolist(), weights.numpy().tolist()


def test_the_first_that_did_not_happen_decides():
    # click: no; like: no; buy: no; all; then what is unknown: buy, like, click.
    click = [(0, 1), (1, 2), (1, 2), (1, 2), (1, 2), (1, 2), (NAN, 0)]
    like = [(NAN, 0), (0, 3), (1, 3), (1, 3), (1, 3), (NAN, 0), (NAN, 0)]
    buy = [(NAN, 0), (NAN, 0), (0, 5), (1, 5), (NAN, 0), (NAN, 0), (NAN, 0)]
    labels, weights = targets(click, like, buy)
    assert weights == [1, 3, 5, 5, 0, 0, 0]
    assert labels == [0, 0, 0, 1, 0, 0, 0]
    labels, weights = targets(click, like)
    assert weights == [1, 3, 3, 3, 3, 0, 0]
    assert labels == [0, 0, 1, 1, 1, 0, 0]


def test_one_behaviour_is_itself():
    assert targets([(1, 2), (0, 3), (NAN, 0)]) == ([1, 0, 0], [2, 3, 0])


@pytest.mark.parametrize("label", [0, 1, NAN])
def test_rows_on_which_the_first_is_undefined_are_out_whatever_the_rest_says(label):
    labels, weights = targets([(label, 0)], [(1, 1)])
    assert (labels, weights) == ([0], [0])


def test_a_label_below_a_negative_one_is_not_looked_at():
    assert targets([(0, 1)], [(1, 7)]) == ([0], [1])


def test_takes_integers_and_booleans():
    labels, weights = joint_targets(
        [tf.constant([1, 1]), tf.constant([1, 0])], [tf.constant([True, True])] * 2
    )
    np.testing.assert_array_equal(labels, [1, 0])
    np.testing.assert_array_equal(weights, [1, 1])


@pytest.mark.parametrize(("labels", "weights"), [([], []), ([tf.ones(1)], [])])
def test_refuses_no_behaviour_and_missing_weights(labels, weights):
    with pytest.raises(ValueError, match=f"received {len(labels)} and {len(weights)}"):
        joint_targets(labels, weights)
