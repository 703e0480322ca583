"""A learning rate that rises before it does what it would do."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras
from tf_keras.optimizers.schedules import LearningRateSchedule


@keras.utils.register_keras_serializable(package="tfmtl")
class WarmUp(LearningRateSchedule):
    """A schedule whose first steps are made with a share of its rate that grows evenly.

        rate(t) = min(1, (t + 1) / steps) schedule(t),    t = 0, 1, ...

    The schedule is not put off: one that falls to 0 over all steps does so at the same step.

    Args:
        schedule: What the rate does without warm-up.
        steps: Steps until it has its whole rate.

    Raises:
        ValueError: If `steps` is not positive.

    References:
        Goyal et al., Accurate, Large Minibatch SGD (arXiv:1706.02677, 2017), section 2.2.

    Example:
        >>> from tf_keras.optimizers.schedules import PolynomialDecay
        >>> rate = WarmUp(PolynomialDecay(1.0, 8, 0.0), steps=4)
        >>> [float(rate(step)) for step in range(5)]
        [0.25, 0.4375, 0.5625, 0.625, 0.5]
    """

    def __init__(self, schedule: LearningRateSchedule, *, steps: int):
        super().__init__()
        if steps < 1:
            raise ValueError(f"expected warm-up of at least 1 step; received {steps}")
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step: Any) -> tf.Tensor:
        """The rate of a step, counted from 0."""
        rate = self.schedule(step)
        share = tf.minimum((tf.cast(step, rate.dtype) + 1) / self.steps, 1)
        return share * rate

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "schedule": keras.optimizers.schedules.serialize(self.schedule),
            "steps": self.steps,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        """Makes the schedule that `get_config` describes."""
        schedule = keras.optimizers.schedules.deserialize(config["schedule"])
        return cls(schedule, steps=config["steps"])
