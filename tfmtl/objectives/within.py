"""A bound on weights."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class Within(keras.constraints.Constraint):
    """Keeps weights within [-limit, limit].

    A variable exactly on the bound still has a gradient that leads back inside, because the
    constraint moves the variable instead of clipping the loss.

    Args:
        limit: The bound.
    """

    def __init__(self, limit: float):
        self.limit = float(limit)

    def __call__(self, weight: tf.Tensor) -> tf.Tensor:
        """The nearest weights within the bound."""
        return tf.clip_by_value(weight, -self.limit, self.limit)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"limit": self.limit}
