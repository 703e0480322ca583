import numpy as np
import pytest
from scipy.optimize import root

from tests.objectives.gradient_cases import losses_of, random_gradients, solve, weights_by_task
from tfmtl.objectives import NashMTL
from tfmtl.testing import run_layer_test


def bargain(gram):
    """Solution of M a = 1 / a by SciPy, in the logarithm of a so that it is positive."""
    found = root(lambda x: gram @ np.exp(x) - np.exp(-x), -0.5 * np.log(np.diag(gram)), tol=1e-12)
    assert found.success
    return np.exp(found.x)


def test_two_tasks_by_hand():
    # Equal lengths sqrt(2) and <g_1, g_2> = 1: a_1 = a_2. Of lengths 1 and 2 at a right angle,
    # |g|^2 a = 1 / a gives a = 1 / |g|.
    assert solve(NashMTL(weights_by_task(2)), [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]) == (
        pytest.approx([1.0, 1.0], rel=1e-4)
    )
    received = solve(NashMTL(weights_by_task(2)), [[1.0, 0.0], [0.0, 2.0]])
    assert received == pytest.approx([4 / 3, 2 / 3], rel=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_the_bargaining_equation_holds(seed):
    gradients = random_gradients(seed, number=2 + seed % 4)
    number = len(gradients)
    weights = solve(NashMTL(weights_by_task(number)), gradients)
    gram = gradients @ gradients.T
    assert min(weights) > 0
    assert sum(weights) == pytest.approx(number, rel=1e-5)
    # M a = 1 / a up to the factor that makes the weights sum to the number of tasks.
    products = weights * (gram @ weights)
    np.testing.assert_allclose(products, products.mean(), rtol=1e-3)
    expected = bargain(gram)
    np.testing.assert_allclose(weights, number * expected / expected.sum(), rtol=2e-3)


def test_a_factor_on_a_loss_does_not_turn_the_step():
    gradients = random_gradients(3, number=3)
    first = solve(NashMTL(weights_by_task(3)), gradients)
    second = solve(NashMTL({"like": 100.0, "click": 1.0, "buy": 0.01}), gradients)
    np.testing.assert_allclose(second / second.sum(), first / first.sum(), rtol=1e-3)


def test_opposed_gradients_cancel():
    gradients = np.array([[2.0, 0.0], [-1.0, 0.0]])
    weights = solve(NashMTL(weights_by_task(2)), gradients)
    assert weights == pytest.approx([2 / 3, 4 / 3], rel=1e-3)


def test_as_a_layer():
    run_layer_test(lambda: NashMTL({"like": 2.0, "click": 1.0}), losses_of(1, 2))
