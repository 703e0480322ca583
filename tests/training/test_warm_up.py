import pytest
import tensorflow as tf
from tf_keras.optimizers import schedules

from tfmtl.training import WarmUp


def rates(schedule, steps):
    return [float(schedule(tf.constant(step, tf.int64))) for step in range(steps)]


def test_the_rate_rises_evenly_and_then_stays():
    constant = schedules.ExponentialDecay(0.8, 100, 1.0, staircase=True)
    assert rates(WarmUp(constant, steps=4), 6) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_what_the_schedule_does_is_not_put_off():
    # 1, 3/4, 1/2, 1/4, 0 without; the shares are 1/2, 1, 1, ...
    linear = schedules.PolynomialDecay(1.0, 4, 0.0)
    assert rates(WarmUp(linear, steps=2), 5) == pytest.approx([0.5, 0.75, 0.5, 0.25, 0.0])


def test_one_step_is_no_warm_up():
    linear = schedules.PolynomialDecay(1.0, 4, 0.0)
    assert rates(WarmUp(linear, steps=1), 5) == rates(linear, 5)


def test_configuration_makes_the_same_schedule():
    schedule = WarmUp(schedules.CosineDecay(0.3, 9), steps=3)
    again = schedules.deserialize(schedules.serialize(schedule))
    assert isinstance(again, WarmUp)
    assert rates(again, 9) == rates(schedule, 9)


def test_no_step_is_refused():
    with pytest.raises(ValueError, match="warm-up of at least 1 step; received 0"):
        WarmUp(schedules.CosineDecay(0.3, 9), steps=0)
