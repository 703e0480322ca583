import numpy as np
import pytest
import tensorflow as tf

from tests.objectives.gradient_cases import losses_of, random_gradients, solve, weights_by_task
from tfmtl.objectives import (
    IMTL,
    MGDA,
    CAGrad,
    GradientWeighting,
    NashMTL,
    PCGrad,
)

EVERY = [
    MGDA,
    lambda weights: MGDA(weights, normalization="norm"),
    lambda weights: MGDA(weights, normalization="loss"),
    CAGrad,
    PCGrad,
    NashMTL,
    lambda weights: IMTL(weights, kind="gradient"),
    IMTL,
]
IDS = ["mgda", "mgda norm", "mgda loss", "cagrad", "pcgrad", "nash_mtl", "imtl gradient", "imtl"]
every = pytest.mark.parametrize("weighting", EVERY, ids=IDS)


class Shown(GradientWeighting):
    """Gives what it reads."""

    def combination(self, losses, gram, present):
        return tf.linalg.diag_part(gram) + losses


@every
def test_one_task_has_weight_one(weighting):
    assert solve(weighting(weights_by_task(1)), [[3.0, 4.0]]) == pytest.approx([1.0], rel=1e-5)


@every
def test_tasks_that_agree_have_equal_weights(weighting):
    received = solve(weighting(weights_by_task(3)), [[3.0, 4.0]] * 3)
    assert received == pytest.approx([1.0, 1.0, 1.0], rel=1e-3)


@every
def test_a_task_without_rows_changes_nothing_for_the_others(weighting):
    gradients = random_gradients(3, number=3)
    alone = solve(weighting(weights_by_task(3)), gradients)
    # The task is the second of four.
    gradients = np.insert(gradients, 1, 0.0, axis=0)
    received = solve(weighting(weights_by_task(4)), gradients, losses=[1.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(received[[0, 2, 3]], alone, rtol=1e-4, atol=1e-5)


@every
def test_a_batch_without_any_task_is_finite(weighting):
    received = solve(weighting(weights_by_task(3)), np.zeros([3, 2]), losses=[0.0, 0.0, 0.0])
    assert received.tolist() == [0.0, 0.0, 0.0]


@every
def test_a_task_of_weight_zero_is_left_out(weighting):
    gradients = random_gradients(4, number=3)
    weights = {**weights_by_task(3), "click": 0.0}
    received = solve(weighting(weights), gradients)
    alone = solve(weighting(weights_by_task(2)), gradients[[0, 2]])
    np.testing.assert_allclose(received, [alone[0], 0.0, alone[1]], rtol=1e-4, atol=1e-5)


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_leaves_equal_weights(weighting, bad):
    weights = {"like": 1.0, "click": 0.5}
    assert solve(weighting(weights), [[1.0, bad], [1.0, 0.0]]).tolist() == [1.0, 0.5]


@every
def test_a_common_factor_changes_nothing(weighting):
    gradients = random_gradients(5)
    ordinary = solve(weighting(weights_by_task(4)), gradients)
    for factor in (1e-6, 1e6):
        received = solve(weighting(weights_by_task(4)), factor * gradients)
        np.testing.assert_allclose(received, ordinary, rtol=1e-3, atol=1e-4)


@every
def test_weights_of_the_schema_multiply_the_losses(weighting):
    gradients = random_gradients(6, number=2)
    # Of IMTL and Nash-MTL they change the length of the step alone, as a factor on a loss does.
    weighted = solve(weighting({"like": 3.0, "click": 0.5}), gradients, losses=[1.0, 1.0])
    scaled = solve(weighting(weights_by_task(2)), gradients * [[3.0], [0.5]], losses=[3.0, 0.5])
    np.testing.assert_allclose(weighted, [3.0, 0.5] * scaled, rtol=1e-4)


@every
def test_compiles_with_xla(weighting):
    gradients = random_gradients(7)
    plain, compiled = (
        solve(weighting(weights_by_task(4)), gradients, jit_compile=jit) for jit in (False, True)
    )
    # The order in which PCGrad takes tasks is drawn otherwise under XLA.
    if weighting is not PCGrad:
        np.testing.assert_allclose(compiled, plain, rtol=1e-3, atol=1e-3)
    assert np.all(np.isfinite(compiled))


@every
def test_the_loss_is_the_plain_sum(weighting):
    # 3 * 1 + 0.5 * 4.
    assert float(weighting({"like": 3.0, "click": 0.5})(losses_of(1.0, 4.0))) == 5.0


def test_what_a_combination_reads():
    weighting = Shown({"like": 2.0, "click": 1.0, "buy": 1.0})
    # p_k g_k have the squares 4 * 1, 16 and 0, divided by 16; losses are 2 * 3, 5 and 0; the weight
    # multiplies the answer.
    received = solve(weighting, [[1.0, 0], [0, 4.0], [1.0, 1.0]], losses=[3.0, 5.0, 0.0])
    assert received.tolist() == [2 * (0.25 + 6), 1 + 5, 0]


def test_names_a_missing_gram_matrix():
    weighting = Shown({"like": 1.0})
    with pytest.raises(ValueError, match="Shown expected the Gram matrix of the tasks' gradients"):
        weighting.task_weights(losses_of(1.0))
