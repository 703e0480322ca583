import numpy as np
import pytest
from scipy.optimize import minimize

from tests.objectives.gradient_cases import losses_of, random_gradients, solve, weights_by_task
from tfmtl.objectives import MGDA, CAGrad
from tfmtl.testing import run_layer_test


def dual(gram, c):
    """Least value of <g_w, g_0> + c |g_0| |g_w| over the simplex, by SciPy."""
    number = len(gram)
    mean = np.full(number, 1 / number)
    radius = c * np.sqrt(mean @ gram @ mean)
    return minimize(
        lambda w: w @ gram @ mean + radius * np.sqrt(w @ gram @ w),
        mean,
        bounds=[(0, 1)] * number,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-15, "maxiter": 500},
    ).fun


def test_two_tasks_by_hand():
    # g_0 = (1/2, 1), so c |g_0| is 1/2 at c = 1 / sqrt(5). The first task is worse off: g_w = g_1
    # would have <g_1, d> = 1/2 + 1/2 = 1, and <g_2, d> = 2 >= 1 says that it is the answer. The
    # weights are (1 + 2 lambda) / (1 + c) and 1 / (1 + c) with lambda = 1/2 / |g_1|.
    c = 5**-0.5
    received = solve(CAGrad(weights_by_task(2), c=c), [[1.0, 0.0], [0.0, 2.0]])
    assert received == pytest.approx([2 / (1 + c), 1 / (1 + c)], rel=1e-4)


def test_at_zero_it_is_equal_weights():
    received = solve(CAGrad(weights_by_task(4), c=0.0), random_gradients(1))
    assert received == pytest.approx([1.0] * 4, rel=1e-6)


def test_at_a_large_c_it_is_mgda():
    gradients = random_gradients(2)
    received = solve(CAGrad(weights_by_task(4), c=1e3), gradients) @ gradients
    expected = solve(MGDA(weights_by_task(4)), gradients) @ gradients
    cosine = received @ expected / np.linalg.norm(received) / np.linalg.norm(expected)
    assert cosine > 0.999


@pytest.mark.parametrize("c", [0.2, 0.4, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_the_worst_task_gains_what_the_dual_allows(seed, c):
    gradients = random_gradients(seed, number=3 + seed % 3)
    number = len(gradients)
    step = solve(CAGrad(weights_by_task(number), c=c), gradients) @ gradients * (1 + c) / number
    mean = gradients.mean(axis=0)
    # Within the ball, and there the worst task's gain is the dual's value: no step is better.
    assert np.linalg.norm(step - mean) <= c * np.linalg.norm(mean) * (1 + 1e-4)
    scale = np.square(gradients).sum(axis=1).max()
    expected = dual(gradients @ gradients.T / scale, c)
    assert min(gradients @ step) / scale == pytest.approx(expected, abs=1e-4)
    assert min(gradients @ step) >= min(gradients @ mean) - 1e-5 * scale


def test_goes_on_where_gradients_cancel_but_their_mean_does_not():
    # (1, 0) and (-2, 0): no step lowers both losses, and that of the mean is (-1/2, 0). What is
    # added to it has length c / 2 at most.
    received = solve(CAGrad(weights_by_task(2), c=0.4), [[1.0], [-2.0]])
    step = received @ [1.0, -2.0] * 1.4 / 2
    assert -0.5 * 1.4 <= step <= -0.5 * 0.6


def test_as_a_layer():
    run_layer_test(lambda: CAGrad({"like": 2.0, "click": 1.0}, c=0.3), losses_of(1, 2))


def test_refuses_a_negative_c():
    with pytest.raises(ValueError, match=r"expected c of at least 0; received -0\.1"):
        CAGrad(weights_by_task(2), c=-0.1)
