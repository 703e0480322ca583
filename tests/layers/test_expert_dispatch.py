import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers.expert_dispatch import ExpertDispatch, StackedLayer


@pytest.mark.parametrize("dispatch", ["split", "blocks"])
def test_golden(dispatch):
    # Expert 0: x [1, 3], less the mean, times [2, 1], plus [0, 5]; expert 1 alike. Then negated.
    layer = StackedLayer(
        tf.constant([[[1.0, 3.0]], [[4.0, 0.0]]]),
        tf.constant([[0.0, 5.0], [1.0, 0.0]]),
        tf.constant([[2.0, 1.0], [1.0, 3.0]]),
        normalize=lambda values: values - tf.reduce_mean(values, axis=-1, keepdims=True),
        finish=tf.negative,
    )
    outputs, kept = ExpertDispatch(2, dispatch=dispatch)(
        tf.constant([[1.0], [2.0]]), tf.constant([[1, 0], [0, 0]]), [layer]
    )
    # x = 1: expert 1 [4, 0] - 2 = [2, -2], [2 + 1, -6]; expert 0 [1, 3] - 2 = [-1, 1], [-2, 1 + 5].
    # x = 2: expert 0 [2, 6] - 4 = [-2, 2], [-4, 2 + 5], twice.
    expected = [[[-3, 6], [2, -6]], [[4, -7], [4, -7]]]
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    assert kept is None


@pytest.mark.parametrize("dispatch", ["split", "blocks"])
def test_says_what_was_dropped(dispatch):
    # Capacity ceil(0.5 * 4 / 2) = 1: each expert keeps its first visit.
    bank = ExpertDispatch(2, dispatch=dispatch, capacity_factor=0.5)
    experts = tf.constant([[1], [1], [0], [1]])
    layer = StackedLayer(tf.constant([[[1.0]], [[10.0]]]))
    outputs, kept = bank(tf.constant([[1.0], [2.0], [3.0], [4.0]]), experts, [layer])
    np.testing.assert_array_equal(kept[:, 0], [True, False, True, False])
    np.testing.assert_array_equal(outputs[:, 0, 0], [10, 0, 3, 0])
    assert float(bank.dropped_share(experts)) == 0.5


def test_refuses_an_unknown_dispatch():
    with pytest.raises(ValueError, match="'auto', 'split' or 'blocks'; received 'loop'"):
        ExpertDispatch(2, dispatch="loop")


def test_refuses_a_capacity_of_zero():
    with pytest.raises(ValueError, match="expected a positive capacity_factor; received 0"):
        ExpertDispatch(2, capacity_factor=0)
