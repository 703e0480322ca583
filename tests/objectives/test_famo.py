import math

import numpy as np
import pytest
import tensorflow as tf

from tests.objectives.gradient_cases import NAMES, losses_of, weights_by_task
from tfmtl.objectives import FAMO, StaticWeighting
from tfmtl.testing import run_layer_test


def observe(weighting, before, after, steps=1, jit_compile=False):
    before, after = losses_of(*before), losses_of(*after)
    weighting(before)

    @tf.function(jit_compile=jit_compile)
    def step():
        weighting.observe(before, after=after)

    for _ in range(steps):
        step()
    return weighting.task_weights(before).numpy()


def descend(weighting, steps=300):
    """Losses of 200 (x - 1)^2 / 2 and (y - 1)^2 / 2 after gradient descent from 0, from 1 each."""
    position = tf.Variable([0.0, 0.0])

    def losses():
        curves = tf.square(position - 1) / 2 * [200.0, 1.0]
        return dict(zip(NAMES, tf.unstack(curves), strict=False))

    weighting(losses())

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            before = losses()
            total = weighting(before)
        position.assign_sub(0.004 * tape.gradient(total, position))
        weighting.observe(before, after=losses())

    for _ in range(steps):
        step()
    return np.array([float(value) for value in losses().values()])


def test_starts_in_proportion_to_the_inverse_losses():
    # 1/2 and 1/8, scaled to the sum 2, and then the weights of the schema.
    weighting = FAMO({"like": 3.0, "click": 1.0})
    weighting(losses_of(1, 1))
    received = weighting.task_weights(losses_of(2.0, 8.0)).numpy()
    assert received == pytest.approx([3 * 1.6, 0.4])
    assert float(weighting(losses_of(2.0, 8.0))) == pytest.approx(3 * 1.6 * 2 + 0.4 * 8)


def test_the_first_step_by_hand():
    # The first loss halved, the second stayed. The first's fall is above the mean, so that xi_1
    # falls and xi_2 rises, by Adam's first step each: z = softmax(-0.1, 0.1).
    weighting = FAMO(weights_by_task(2), learning_rate=0.1)
    received = observe(weighting, (1.0, 1.0), (0.5, 1.0))
    z = 1 / (1 + math.exp(0.2))
    assert weighting.logits.numpy() == pytest.approx([-0.1, 0.1], rel=1e-4)
    assert received == pytest.approx([2 * z, 2 * (1 - z)], rel=1e-5)


def test_decay_leads_back_to_the_inverse_losses():
    weighting = FAMO(weights_by_task(2), learning_rate=0.01, decay=0.1)
    observe(weighting, (1.0, 1.0), (0.5, 1.0), steps=20)
    assert abs(weighting.logits.numpy()).min() > 0.1
    observe(weighting, (1.0, 1.0), (1.0, 1.0), steps=1000)
    assert weighting.logits.numpy() == pytest.approx([0.0, 0.0], abs=0.02)


def test_losses_fall_at_one_rate_where_the_plain_sum_stalls_on_one():
    """Two quadratics of curvatures 200 and 1."""
    # The rate that the first allows is 1 / 200, at which the second hardly moves.
    plain = descend(StaticWeighting(weights_by_task(2)), steps=100)
    assert plain[0] < 1e-9
    assert plain[1] > 0.2
    falls = -np.log(descend(FAMO(weights_by_task(2)), steps=100) / [100.0, 0.5])
    assert min(falls) > 1
    assert falls[0] == pytest.approx(falls[1], rel=0.2)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_task_without_rows_keeps_what_it_has(jit_compile):
    weighting = FAMO(weights_by_task(3))
    observe(weighting, (1.0, 2.0, 3.0), (0.5, 2.0, 2.9), steps=3, jit_compile=jit_compile)
    before = [value.copy() for value in weighting.get_weights()]
    weights = observe(weighting, (1.0, 0.0, 3.0), (0.5, 0.0, 2.9), steps=3, jit_compile=jit_compile)
    for old, new in zip(before, weighting.get_weights(), strict=True):
        assert old[..., 1].tolist() == new[..., 1].tolist()
        assert not np.allclose(old[..., 0], new[..., 0])
    assert weights[1] == 0
    assert sum(weights) == pytest.approx(2.0, rel=1e-5)


def test_losses_that_are_not_positive_and_finite_change_nothing():
    weighting = FAMO(weights_by_task(3))
    observe(weighting, (1.0, 2.0, 3.0), (0.5, 2.0, 2.9))
    before = weighting.get_weights()
    observe(weighting, (math.nan, -1.0, 3.0), (0.5, 2.0, math.inf), steps=3)
    for old, new in zip(before, weighting.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_task_of_weight_zero_takes_no_share():
    weighting = FAMO({"like": 1.0, "click": 0.0, "buy": 1.0})
    weighting(losses_of(1, 1, 1))
    assert weighting.task_weights(losses_of(1, 1, 1)).numpy().tolist() == [1.0, 0.0, 1.0]


def test_a_batch_without_any_task_is_zero():
    assert float(FAMO(weights_by_task(2))(losses_of(0.0, 0.0))) == 0.0


def test_as_a_layer():
    run_layer_test(
        lambda: FAMO({"like": 2.0, "click": 1.0}, learning_rate=0.1, decay=0.0), losses_of(1, 2)
    )


@pytest.mark.parametrize("options", [{"decay": -1.0}, {"learning_rate": 0.0}])
def test_refused(options):
    with pytest.raises(ValueError, match="expected a learning_rate above 0 and a decay of at"):
        FAMO(weights_by_task(2), **options)
