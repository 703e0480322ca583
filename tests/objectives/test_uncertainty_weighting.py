import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives import UncertaintyWeighting
from tfmtl.testing import run_layer_test

LOSSES = {"click": tf.constant(2.0), "like": tf.constant(0.25)}


def descend(weighting, losses, steps=400, rate=0.1):
    optimizer = keras.optimizers.SGD(rate)
    weighting.build(None)
    optimizer.build(weighting.trainable_weights)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            total = weighting(losses)
        optimizer.minimize(total, weighting.trainable_weights, tape=tape)

    for _ in range(steps):
        step()
    return weighting.log_variance.numpy()


def test_golden():
    weighting = UncertaintyWeighting(["click", "like"])
    weighting.build(None)
    weighting.set_weights([np.array([math.log(4), -math.log(3)])])
    # 2 / 4 + ln 4 and 3 / 4 - ln 3.
    expected = 0.5 + math.log(4) + 0.75 - math.log(3)
    assert float(weighting(LOSSES)) == pytest.approx(expected)


def test_starts_as_the_plain_sum():
    assert float(UncertaintyWeighting(["like", "click"])(LOSSES)) == 2.25


def test_gradient_descent_settles_at_the_inverse_losses():
    weighting = UncertaintyWeighting(["click", "like"])
    np.testing.assert_allclose(np.exp(-descend(weighting, LOSSES)), [1 / 2, 1 / 0.25], rtol=1e-3)


def test_two_quadratic_tasks_meet_where_the_weights_put_them():
    """Weights and model are trained together, to a point that is known."""
    # Losses x^2 + 16/9 and (x - 1)^2 + 1. At x = 2/3 they are 20/9 and 10/9, so the weights are
    # 9/20 and 9/10, and 9/20 x = 9/10 (1 - x) there. The plain sum would end at 1/2.
    weighting = UncertaintyWeighting(["click", "like"])
    weighting.build(None)
    x = tf.Variable(0.0)
    optimizer = keras.optimizers.SGD(0.1)
    variables = [x, *weighting.trainable_weights]
    optimizer.build(variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            total = weighting({"click": x**2 + 16 / 9, "like": (x - 1) ** 2 + 1})
        optimizer.minimize(total, variables, tape=tape)

    for _ in range(400):
        step()
    assert float(x) == pytest.approx(2 / 3, abs=1e-3)
    np.testing.assert_allclose(np.exp(-weighting.log_variance.numpy()), [9 / 20, 9 / 10], rtol=1e-3)


def test_the_bound_holds_and_is_no_trap():
    weighting = UncertaintyWeighting(["rare"], limit=1.0)
    # 1 / 0.005 = 200 is beyond e.
    assert descend(weighting, {"rare": tf.constant(0.005)}) == [-1.0]
    # From the bound the way back is open: 1 / L = 1 / 2.
    assert descend(weighting, {"rare": tf.constant(2.0)}) == pytest.approx(math.log(2), rel=1e-3)


def test_a_task_without_rows_moves_nothing():
    weighting = UncertaintyWeighting(["click", "like"])
    received = descend(weighting, {"click": tf.constant(2.0), "like": tf.constant(0.0)})
    assert received == pytest.approx([math.log(2), 0], rel=1e-3)
    assert float(weighting({"click": tf.constant(0.0), "like": tf.constant(0.0)})) == 0


def test_a_loss_that_is_not_a_number_shows():
    assert math.isnan(UncertaintyWeighting(["a"])({"a": tf.constant(math.nan)}))


def test_is_in_no_penalty():
    weighting = UncertaintyWeighting(["click", "like"])
    weighting(LOSSES)
    assert weighting.losses == []


def test_is_in_full_precision_under_a_half_policy():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        weighting = UncertaintyWeighting(["a"])
        # Half precision rounds 2.0001 to 2, and 1e5 to infinity.
        assert float(weighting({"a": tf.constant(2.0001)})) == pytest.approx(2.0001, abs=1e-6)
        assert float(weighting({"a": tf.constant(1e5)})) == pytest.approx(1e5)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_as_a_layer():
    run_layer_test(lambda: UncertaintyWeighting(["click", "like"], limit=3.0), LOSSES)


@pytest.mark.parametrize(("tasks", "limit"), [([], 5.0), (["click"], 0.0)])
def test_refuses_no_tasks_and_no_room(tasks, limit):
    with pytest.raises(ValueError, match=rf"a positive limit; received \{tasks}, {limit}"):
        UncertaintyWeighting(tasks, limit=limit)
