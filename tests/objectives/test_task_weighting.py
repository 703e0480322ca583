import pytest
import tensorflow as tf
import tf_keras as keras

from tests.objectives.gradient_cases import losses_of
from tfmtl.objectives import TaskWeighting


class Inverse(TaskWeighting):
    """A weight that is infinite for a task without rows."""

    def task_weights(self, losses, gram=None):
        return self.priors / self.stacked(losses)


def test_the_total_is_the_weighted_sum_of_the_tasks_with_rows():
    weighting = Inverse({"like": 0.5, "click": 2.0, "buy": 1.0})
    # 0.5 + 2, whatever the losses are; a task without rows would be 0 times infinity.
    assert float(weighting(losses_of(4.0, 0.1, 0.0))) == 2.5


def test_weights_are_constants_to_the_gradient():
    weighting = Inverse({"like": 1.0})
    loss = tf.Variable(4.0)
    with tf.GradientTape() as tape:
        total = weighting({"like": loss * 1.0})
    # 1 / L L is 1 everywhere, but it is the gradient of L with weight 1 / L that is wanted.
    assert float(tape.gradient(total, loss)) == 0.25


def test_which_tasks_are_present():
    weighting = Inverse({"like": 1.0, "click": 0.0, "buy": 1.0})
    assert weighting.present(losses_of(1.0, 1.0, 0.0)).numpy().tolist() == [True, False, False]


def test_state_is_in_the_checkpoint_and_not_in_training():
    weighting = Inverse({"like": 1.0, "click": 1.0})
    state = weighting.add_state("state", 0.5, rows=3)
    assert state.numpy().tolist() == [[0.5, 0.5]] * 3
    assert weighting.trainable_weights == []
    assert [weight.name for weight in weighting.weights] == [state.name]


def test_is_in_full_precision_under_a_half_policy():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        weighting = Inverse({"like": 1e-8})
        # Half precision has no 1e-8.
        assert float(weighting(losses_of(2.0))) == pytest.approx(1e-8)
        assert weighting.add_state("state").dtype == tf.float32
    finally:
        keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("weights", [{}, {"click": 1.0, "like": -0.5}])
def test_refuses_no_tasks_and_negative_weights(weights):
    with pytest.raises(ValueError, match=rf"expected a weight >= 0 per task; received {weights}"):
        Inverse(weights)
