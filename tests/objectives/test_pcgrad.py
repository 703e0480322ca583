import numpy as np
import pytest
import tensorflow as tf

from tests.objectives.gradient_cases import losses_of, random_gradients, solve, weights_by_task
from tfmtl.objectives import PCGrad
from tfmtl.testing import run_layer_test


def surgery(gradients, orders):
    """Algorithm 1 of the paper on the gradients themselves."""
    total = np.zeros(gradients.shape[1])
    for i, order in enumerate(orders):
        own = gradients[i].copy()
        for j in order:
            if j != i and own @ gradients[j] < 0:
                own -= own @ gradients[j] / (gradients[j] @ gradients[j]) * gradients[j]
        total += own
    return total


def test_two_conflicting_gradients_by_hand():
    gradients = np.array([[2.0, 0.0], [-1.0, 1.0]])
    weights = solve(PCGrad(weights_by_task(2)), gradients)
    # <g_1, g_2> = -2: d_1 = g_1 + 2 / 2 g_2 = (1, 1) and d_2 = g_2 + 2 / 4 g_1 = (0, 1).
    assert weights == pytest.approx([1.5, 2.0])
    assert weights @ gradients == pytest.approx([1.0, 2.0])


def test_opposed_gradients_cancel():
    gradients = np.array([[2.0, 0.0], [-1.0, 0.0]])
    assert solve(PCGrad(weights_by_task(2)), gradients) @ gradients == pytest.approx([0.0, 0.0])


def test_without_conflict_nothing_changes():
    gradients = np.abs(random_gradients(0))
    assert solve(PCGrad(weights_by_task(4)), gradients).tolist() == [1.0] * 4


@pytest.mark.parametrize("seed", range(5))
def test_many_tasks_as_by_surgery_on_the_gradients(seed):
    # In few dimensions most pairs conflict.
    gradients = random_gradients(seed, number=5, size=3)
    weighting = PCGrad(weights_by_task(5), seed=seed)
    received = solve(weighting, gradients) @ gradients
    drawn = tf.random.stateless_uniform([5, 5], tf.constant([seed, 0], tf.int64))
    expected = surgery(gradients, np.argsort(drawn.numpy(), axis=1))
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-4 * np.abs(gradients).max())


def test_orders_change_from_step_to_step_and_go_on_from_a_checkpoint():
    gradients = random_gradients(9, number=5, size=3)
    losses = losses_of(*[1.0] * 5)
    weighting = PCGrad(weights_by_task(5))
    first = solve(weighting, gradients)
    assert solve(weighting, gradients).tolist() == first.tolist()
    weighting.observe(losses)
    second = solve(weighting, gradients)
    assert second.tolist() != first.tolist()
    resumed = PCGrad(weights_by_task(5))
    resumed(losses)
    resumed.set_weights(weighting.get_weights())
    assert solve(resumed, gradients).tolist() == second.tolist()


def test_as_a_layer():
    run_layer_test(lambda: PCGrad({"like": 2.0, "click": 1.0}, seed=3), losses_of(1, 2))
