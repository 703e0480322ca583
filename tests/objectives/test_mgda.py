import numpy as np
import pytest
from scipy.optimize import minimize

from tests.objectives.gradient_cases import losses_of, random_gradients, solve, weights_by_task
from tfmtl.objectives import MGDA
from tfmtl.testing import run_layer_test


def shortest(gram):
    """The simplex' point of least a^T M a, by SciPy."""
    number, gram = len(gram), gram / gram.max()
    return minimize(
        lambda a: a @ gram @ a,
        np.full(number, 1 / number),
        jac=lambda a: 2 * gram @ a,
        bounds=[(0, 1)] * number,
        constraints={"type": "eq", "fun": lambda a: a.sum() - 1},
        options={"ftol": 1e-15, "maxiter": 500},
    ).x


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # <g_2 - g_1, g_2> / |g_1 - g_2|^2 = (9 - 0) / (1 + 9).
        ([1.0, 0.0], [0.0, 3.0], 0.9),
        # (4 + 1) / (2^2 + ...): <(-3, 1), (-1, 1)> / |(3, -1)|^2 = 4 / 10.
        ([2.0, 0.0], [-1.0, 1.0], 0.4),
        # (3 - 1) / ... is beyond 1: the shorter one lies within the other's half space.
        ([1.0, 0.0], [2.0, 1.0], 1.0),
        ([2.0, 1.0], [1.0, 0.0], 0.0),
    ],
)
def test_two_tasks_by_the_closed_form(first, second, expected):
    received = solve(MGDA(weights_by_task(2)), [first, second])
    assert received == pytest.approx([2 * expected, 2 * (1 - expected)], abs=1e-5)


def test_three_tasks_whose_shortest_is_known():
    # Orthogonal: a_k is in proportion to 1 / |g_k|^2 = (1, 1/4, 1/9), whose sum is 49/36.
    received = solve(MGDA(weights_by_task(3)), np.diag([1.0, 2.0, 3.0]))
    assert received == pytest.approx([3 * 36 / 49, 3 * 9 / 49, 3 * 4 / 49], rel=1e-3)


@pytest.mark.parametrize("seed", range(8))
def test_as_short_as_scipy_finds_and_no_task_gains_less(seed):
    gradients = random_gradients(seed, number=3 + seed % 3)
    number = len(gradients)
    weights = solve(MGDA(weights_by_task(number)), gradients) / number
    gram = gradients @ gradients.T
    assert sum(weights) == pytest.approx(1.0, rel=1e-5)
    assert min(weights) >= 0
    expected = shortest(gram)
    assert weights @ gram @ weights == pytest.approx(expected @ gram @ expected, rel=1e-4)
    # <g_k, d> = |d|^2 for the tasks that have weight, and more for those that have none.
    step = weights @ gradients
    gains = gradients @ step / (step @ step)
    np.testing.assert_allclose(gains[weights > 1e-3], 1.0, atol=5e-3)
    assert min(gains) > 0.99


def test_no_step_where_none_lowers_every_loss():
    # (3, 0) lies opposite to the middle of the others: a = (1, 1.5, 1.5) / 4.
    gradients = np.array([[3.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]])
    weights = solve(MGDA(weights_by_task(3)), gradients)
    assert weights == pytest.approx([3 / 4, 9 / 8, 9 / 8], abs=1e-3)
    assert weights @ gradients == pytest.approx([0, 0], abs=1e-3)


def test_normalization_by_norm_is_that_of_unit_gradients():
    gradients = np.array([[1.0, 0.0], [0.0, 100.0]])
    # Unit gradients have the same weight, so that a is in proportion to 1 / |g| = (1, 1 / 100).
    received = solve(MGDA(weights_by_task(2), normalization="norm"), gradients)
    assert received == pytest.approx([200 / 101, 2 / 101], rel=1e-4)


def test_normalization_by_loss_is_that_of_log_losses():
    # g / L are (1/2, 0) and (0, 3/4), of squares 1/4 and 9/16: (9, 4) / 13 for those, and divided
    # by L = (2, 4) in proportion to (9, 2).
    received = solve(
        MGDA(weights_by_task(2), normalization="loss"), [[1.0, 0], [0, 3.0]], losses=[2.0, 4.0]
    )
    assert received == pytest.approx([18 / 11, 4 / 11], rel=1e-4)


def test_as_a_layer():
    run_layer_test(lambda: MGDA({"like": 2.0, "click": 1.0}, normalization="loss"), losses_of(1, 2))


def test_refuses_another_normalization():
    with pytest.raises(ValueError, match="'none', 'norm' or 'loss'; received 'l2'"):
        MGDA(weights_by_task(2), normalization="l2")
