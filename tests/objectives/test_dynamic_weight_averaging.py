import math

import numpy as np
import pytest
import tensorflow as tf

from tests.objectives.gradient_cases import losses_of, weights_by_task
from tfmtl.objectives import DynamicWeightAveraging
from tfmtl.testing import run_layer_test


def after_epochs(weighting, *epochs):
    """The weights after epochs of batches of losses."""
    weighting(losses_of(*epochs[0][0]))
    for batches in epochs:
        for values in batches:
            weighting.observe(losses_of(*values))
        weighting.end_epoch()
    return weighting.task_weights(losses_of(*epochs[0][0])).numpy()


def test_equal_weights_until_there_are_two_epochs():
    weighting = DynamicWeightAveraging(weights_by_task(2))
    assert after_epochs(weighting, [(3.0, 1.0)]).tolist() == [1.0, 1.0]


def test_weights_by_hand():
    # Means 4 and 1, then 2 and 1: ratios 1/2 and 1, divided by the temperature 2.
    weighting = DynamicWeightAveraging(weights_by_task(2))
    received = after_epochs(weighting, [(3.0, 1.0), (5.0, 1.0)], [(2.0, 1.0)])
    first, second = math.exp(1 / 4), math.exp(1 / 2)
    expected = [2 * first / (first + second), 2 * second / (first + second)]
    assert received == pytest.approx(expected)
    # 3 * 2 and 1 * 1 with the weights of the schema: the ratios are those of before.
    weighting = DynamicWeightAveraging({"like": 3.0, "click": 1.0})
    received = after_epochs(weighting, [(3.0, 1.0), (5.0, 1.0)], [(2.0, 1.0)])
    assert received == pytest.approx([3 * expected[0], expected[1]])
    total = weighting(losses_of(2.0, 10.0))
    assert float(total) == pytest.approx(2 * 3 * expected[0] + 10 * expected[1])


def test_the_last_two_epochs_count():
    weighting = DynamicWeightAveraging(weights_by_task(2), temperature=1.0)
    received = after_epochs(weighting, [(9.0, 1.0)], [(4.0, 1.0)], [(4.0, 3.0)])
    assert received == pytest.approx(2 / (math.e + math.e**3) * np.array([math.e, math.e**3]))


def test_batches_without_a_task_are_left_out_of_its_mean():
    weighting = DynamicWeightAveraging(weights_by_task(2))
    # 4, then 2: the 0 is no loss.
    received = after_epochs(weighting, [(4.0, 1.0), (0.0, 1.0)], [(2.0, 1.0)])
    first, second = math.exp(1 / 4), math.exp(1 / 2)
    assert received[0] == pytest.approx(2 * first / (first + second))


def test_an_epoch_without_a_task_is_passed_over_for_it():
    weighting = DynamicWeightAveraging(weights_by_task(2))
    with_gap = after_epochs(weighting, [(4.0, 1.0)], [(0.0, 1.0)], [(2.0, 1.0)])
    weighting = DynamicWeightAveraging(weights_by_task(2))
    without = after_epochs(weighting, [(4.0, 1.0)], [(2.0, 1.0)])
    assert with_gap.tolist() == without.tolist()


def test_a_loss_that_rose_a_thousandfold_is_finite():
    weighting = DynamicWeightAveraging(weights_by_task(2))
    received = after_epochs(weighting, [(1e-3, 1.0)], [(10.0, 1.0)])
    assert received == pytest.approx([2.0, 0.0])


def test_a_task_of_weight_zero_takes_no_share():
    weighting = DynamicWeightAveraging({"like": 1.0, "click": 0.0, "buy": 1.0})
    assert after_epochs(weighting, [(1.0, 1.0, 1.0)]).tolist() == [1.0, 0.0, 1.0]


def test_a_checkpoint_in_the_middle_of_an_epoch_goes_on():
    first, second = (DynamicWeightAveraging(weights_by_task(2)) for _ in range(2))
    after_epochs(first, [(4.0, 1.0)])
    first.observe(losses_of(3.0, 1.0))
    second(losses_of(1, 1))
    second.set_weights(first.get_weights())
    for weighting in (first, second):
        weighting.observe(losses_of(1.0, 1.0))
        weighting.end_epoch()
    received = [weighting.task_weights(losses_of(1, 1)).numpy() for weighting in (first, second)]
    assert received[0].tolist() == received[1].tolist()
    assert received[0][0] < 1


def test_compiles_with_xla():
    weighting = DynamicWeightAveraging(weights_by_task(2))
    losses = losses_of(2.0, 1.0)
    weighting(losses)

    @tf.function(jit_compile=True)
    def step():
        weighting.observe(losses)
        return weighting(losses)

    assert float(step()) == 3.0
    assert weighting.sums.numpy().tolist() == [[2.0, 1.0], [1.0, 1.0]]


def test_as_a_layer():
    run_layer_test(
        lambda: DynamicWeightAveraging({"like": 2.0, "click": 1.0}, temperature=3.0),
        losses_of(1, 2),
    )


def test_refuses_a_temperature_of_zero():
    with pytest.raises(ValueError, match=r"expected a temperature above 0; received 0\.0"):
        DynamicWeightAveraging(weights_by_task(2), temperature=0.0)
