import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.objectives.gradient_cases import losses_of, random_gradients, solve, weights_by_task
from tfmtl.objectives import IMTL
from tfmtl.testing import run_layer_test


def closed_form(gradients):
    """Weights of IMTL-G as the paper prints them: a = g_1 U^T (D U^T)^-1 for all but the first."""
    units = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    differences, turned = gradients[0] - gradients[1:], units[0] - units[1:]
    others = gradients[0] @ turned.T @ np.linalg.inv(differences @ turned.T)
    return np.array([1 - others.sum(), *others])


def descend(weighting, losses, steps=400):
    optimizer = keras.optimizers.SGD(0.1)
    weighting(losses)
    optimizer.build(weighting.trainable_weights)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            total = weighting(losses)
        optimizer.minimize(total, weighting.trainable_weights, tape=tape)

    for _ in range(steps):
        step()
    return np.exp(weighting.log_scale.numpy())


def test_two_tasks_by_hand():
    # The bisector: whatever the angle, weights are in proportion to 1 / |g| = (1/2, 1/5).
    received = solve(IMTL(weights_by_task(2)), [[2.0, 0.0], [3.0, 4.0]])
    assert received == pytest.approx([2 * 5 / 7, 2 * 2 / 7], rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_all_unit_gradients_have_the_same_projection(seed):
    gradients = random_gradients(seed, number=3 + seed % 3)
    weights = solve(IMTL(weights_by_task(len(gradients)), kind="gradient"), gradients)
    projections = gradients @ (weights @ gradients) / np.linalg.norm(gradients, axis=1)
    assert min(projections) > 0
    np.testing.assert_allclose(projections, projections.mean(), rtol=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_direction_of_the_closed_form(seed):
    gradients = random_gradients(seed, number=4)
    weights = solve(IMTL(weights_by_task(4), kind="gradient"), gradients)
    expected = closed_form(gradients)
    # Divided by the absolute sum; the paper's sum to 1, with the sign that this asks for.
    expected = 4 * expected / np.abs(expected).sum()
    expected *= np.sign(expected @ gradients @ gradients[0])
    np.testing.assert_allclose(weights, expected, rtol=1e-2, atol=1e-3)


def test_opposed_gradients_cancel():
    gradients = np.array([[2.0, 0.0], [-1.0, 0.0]])
    weights = solve(IMTL(weights_by_task(2), kind="gradient"), gradients)
    assert weights @ gradients == pytest.approx([0, 0], abs=1e-3)
    assert weights == pytest.approx([2 / 3, 4 / 3], rel=1e-3)


def test_scaled_losses_settle_at_one():
    weighting = IMTL(weights_by_task(2), kind="loss")
    assert descend(weighting, losses_of(2.0, 0.25)) == pytest.approx([0.5, 4.0], rel=1e-3)


def test_a_factor_on_a_loss_is_undone():
    first = descend(IMTL(weights_by_task(2), kind="loss"), losses_of(2.0, 0.25))
    scaled = descend(IMTL({"like": 3.0, "click": 1.0}, kind="loss"), losses_of(2.0, 0.25))
    # exp(s) p L is the same, so that the loss has the weight p exp(s) of before.
    assert [3.0, 1.0] * scaled == pytest.approx(first, rel=1e-3)


def test_the_bound_holds():
    weighting = IMTL(weights_by_task(1), kind="loss", limit=1.0)
    # 1 / 0.005 = 200 is beyond e.
    assert descend(weighting, losses_of(0.005)) == pytest.approx([math.e])


def test_a_task_without_rows_keeps_its_scale():
    received = descend(IMTL(weights_by_task(2), kind="loss"), losses_of(2.0, 0.0))
    assert received == pytest.approx([0.5, 1.0], rel=1e-3)


def test_golden_total_of_scaled_losses():
    weighting = IMTL(weights_by_task(2))
    weighting(losses_of(1, 1))
    weighting.set_weights([np.array([math.log(3), -math.log(2)])])
    # 3 * 2 - ln 3 and 5 / 2 + ln 2.
    expected = 6 - math.log(3) + 2.5 + math.log(2)
    assert float(weighting(losses_of(2.0, 5.0))) == pytest.approx(expected)


def test_loss_weights_are_the_scales_and_cost_no_gradients():
    weighting = IMTL({"like": 2.0, "click": 1.0}, kind="loss")
    weighting(losses_of(1, 1))
    weighting.set_weights([np.array([math.log(3), 0.0])])
    assert not weighting.reads_gradients
    assert weighting.task_weights(losses_of(1, 1)).numpy() == pytest.approx([6.0, 1.0])


@pytest.mark.parametrize("kind", ["both", "gradient", "loss"])
def test_as_a_layer(kind):
    run_layer_test(lambda: IMTL({"like": 2.0, "click": 1.0}, kind=kind, limit=3.0), losses_of(1, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "G"}, "'both', 'gradient' or 'loss'; received 'G'"),
        ({"limit": 0.0}, r"expected a limit above 0; received 0\.0"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        IMTL(weights_by_task(2), **options)
