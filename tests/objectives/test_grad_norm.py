import numpy as np
import pytest
import tensorflow as tf

from tests.objectives.gradient_cases import losses_of, weights_by_task
from tfmtl.objectives import GradNorm
from tfmtl.testing import run_layer_test


def observe(weighting, losses, lengths, steps=1, jit_compile=False):
    """The weights after steps with gradients of given lengths at right angles."""
    losses = losses_of(*losses)
    weighting(losses)
    gram = tf.linalg.diag(tf.square(tf.constant(lengths, tf.float32)))

    @tf.function(jit_compile=jit_compile)
    def step():
        weighting.observe(losses, gram=gram)

    for _ in range(steps):
        step()
    return weighting.task_weights(losses).numpy()


def test_the_first_step_by_hand():
    # Pulls 4 and 1, target 2.5: the first is above, the second below. Adam's first step has the
    # length of its rate, and 0.9 + 1.1 is 2 already.
    weighting = GradNorm(weights_by_task(2), alpha=0.0, learning_rate=0.1)
    assert observe(weighting, (1.0, 1.0), (4.0, 1.0)) == pytest.approx([0.9, 1.1], rel=1e-5)


def test_at_alpha_zero_all_tasks_pull_alike():
    lengths = np.array([4.0, 1.0, 0.5])
    weighting = GradNorm(weights_by_task(3), alpha=0.0, learning_rate=0.01)
    weights = observe(weighting, (1.0, 1.0, 1.0), lengths, steps=1500)
    assert weights * lengths == pytest.approx(np.mean(weights * lengths), rel=0.05)
    assert sum(weights) == pytest.approx(3.0, rel=1e-4)


def test_a_task_that_learns_slower_pulls_harder():
    # Losses are 1/2 and 1 of their first, so that the rates are 2/3 and 4/3.
    weighting = GradNorm(weights_by_task(2), alpha=1.0, learning_rate=0.01)
    observe(weighting, (2.0, 3.0), (1.0, 1.0))
    weights = observe(weighting, (1.0, 3.0), (1.0, 1.0), steps=1500)
    assert weights == pytest.approx([2 / 3, 4 / 3], rel=0.05)


def test_weights_of_the_schema_are_shares_of_the_pull():
    lengths = np.array([4.0, 1.0])
    weighting = GradNorm({"like": 3.0, "click": 1.0}, alpha=0.0, learning_rate=0.01)
    pulls = lengths * observe(weighting, (1.0, 1.0), lengths, steps=1500)
    assert pulls[0] == pytest.approx(3 * pulls[1], rel=0.05)


def test_starts_as_the_plain_sum_and_moves_from_the_first_step_on():
    weighting = GradNorm({"like": 3.0, "click": 1.0})
    assert float(weighting(losses_of(2.0, 4.0))) == 10.0
    weights = observe(weighting, (2.0, 4.0), (1.0, 5.0))
    assert np.all(np.isfinite(weights))
    assert weights[0] > 3
    assert weights[1] < 1


def test_no_weight_dies():
    weighting = GradNorm(weights_by_task(2), alpha=0.0, learning_rate=0.1)
    weights = observe(weighting, (1.0, 1.0), (1e6, 1.0), steps=100)
    assert 0 < weights[0] < 0.01
    # And none is a trap.
    assert observe(weighting, (1.0, 1.0), (1.0, 1e6), steps=300)[0] > 1.9


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_task_without_rows_keeps_what_it_has(jit_compile):
    weighting = GradNorm(weights_by_task(3), learning_rate=0.1)
    observe(weighting, (1.0, 2.0, 3.0), (4.0, 1.0, 2.0), steps=3, jit_compile=jit_compile)
    before = [value.copy() for value in weighting.get_weights()]
    observe(weighting, (1.0, 0.0, 3.0), (4.0, 0.0, 2.0), steps=3, jit_compile=jit_compile)
    after = weighting.get_weights()
    for old, new in zip(before, after, strict=True):
        assert old[..., 1].tolist() == new[..., 1].tolist()
    assert not np.allclose(before[0][0], after[0][0])
    assert sum(after[0]) == pytest.approx(3.0, rel=1e-5)


def test_the_first_loss_is_that_of_the_first_batch_with_rows():
    weighting = GradNorm(weights_by_task(2))
    observe(weighting, (1.0, 0.0), (1.0, 0.0))
    observe(weighting, (0.5, 3.0), (1.0, 1.0))
    observe(weighting, (0.25, 2.0), (1.0, 1.0))
    assert weighting.first_losses.numpy().tolist() == [1.0, 3.0]


def test_a_gradient_that_is_not_finite_changes_nothing():
    weighting = GradNorm(weights_by_task(2))
    observe(weighting, (1.0, 1.0), (4.0, 1.0))
    before = weighting.get_weights()
    observe(weighting, (1.0, 1.0), (np.inf, np.nan))
    for old, new in zip(before, weighting.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_as_a_layer():
    run_layer_test(
        lambda: GradNorm({"like": 2.0, "click": 1.0}, alpha=0.5, learning_rate=0.1),
        losses_of(1, 2),
    )


@pytest.mark.parametrize("options", [{"alpha": -1.0}, {"learning_rate": 0.0}])
def test_refused(options):
    with pytest.raises(ValueError, match="expected alpha of at least 0 and a learning_rate above"):
        GradNorm(weights_by_task(2), **options)
