import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives import StaticWeighting
from tfmtl.testing import run_layer_test

LOSSES = {"like": tf.constant(0.5), "click": tf.constant(2.0)}


def test_golden():
    # 3 * 2 + 0.25 * 0.5, by name and not by position.
    assert float(StaticWeighting({"click": 3, "like": 0.25})(LOSSES)) == 6.125


def test_a_weight_of_zero_silences_a_task():
    assert float(StaticWeighting({"click": 0, "like": 4})(LOSSES)) == 2.0


def test_is_in_full_precision_under_a_half_policy():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        weighting = StaticWeighting({"click": 1e-8, "like": 0})
        # Half precision has no 1e-8.
        assert float(weighting(LOSSES)) == pytest.approx(2e-8)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_as_a_layer():
    run_layer_test(lambda: StaticWeighting({"click": 3, "like": 0.25}), LOSSES)


@pytest.mark.parametrize("weights", [{}, {"click": 1.0, "like": -0.5}])
def test_refuses_no_tasks_and_negative_weights(weights):
    with pytest.raises(ValueError, match=rf"expected a weight >= 0 per task; received {weights}"):
        StaticWeighting(weights)
