"""Homoscedastic uncertainty weighting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class UncertaintyWeighting(keras.layers.Layer):
    """Total loss sum_k exp(-s_k) L_k + s_k with learned s_k = log sigma_k^2, s_k(0) = 0.

    The weight of a task settles at exp(-s_k) = 1 / L_k, so a rare behaviour with a loss of .005
    would be multiplied by 200: s_k stays within [-limit, limit]. The total may be negative; the
    task losses are reported apart from it. A loss of exactly 0 belongs to a task without a defined
    row in the batch; it adds nothing, or s_k would drift to its bound on batches that say nothing
    about the task.

    Args:
        tasks: Task names.
        limit: Bound on |s_k|.
        **kwargs: Passed to `keras.layers.Layer`.

    Call argument: dict of scalar task losses. Output: scalar.

    References:
        MoGENet equation 6; Kendall, Gal, Cipolla (CVPR 2018) equation 10.

    Deviations:
        The bound, the mean over rows that the losses already are, and the term of a task without
        rows.

    Example:
        >>> import tensorflow as tf
        >>> weighting = UncertaintyWeighting(["click"])
        >>> float(weighting({"click": tf.constant(2.0)}))  # exp(-0) * 2 + 0
        2.0
    """

    def __init__(self, tasks: Sequence[str], *, limit: float = 5.0, **kwargs: Any):
        # Half precision would round s and the losses, and overflow under a loss scale.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.tasks = list(tasks)
        if not self.tasks or limit <= 0:
            raise ValueError(
                f"expected at least one task and a positive limit; received {tasks}, {limit}"
            )
        self.limit = float(limit)

    def build(self, input_shape: Any) -> None:
        """Creates s, one number per task."""
        # A variable exactly on the bound still has a gradient that leads back inside, because the
        # constraint moves the variable instead of clipping the loss.
        self.log_variance = self.add_weight(
            name="log_variance",
            shape=(len(self.tasks),),
            initializer="zeros",
            constraint=_Within(self.limit),
        )
        super().build(input_shape)

    def call(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Uncertainty-weighted sum of scalar losses."""
        stacked = tf.stack([losses[name] for name in self.tasks])
        terms = tf.exp(-self.log_variance) * stacked + self.log_variance
        return tf.reduce_sum(tf.where(stacked == 0, 0.0, terms))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "tasks": self.tasks, "limit": self.limit}


@keras.utils.register_keras_serializable(package="tfmtl")
class _Within(keras.constraints.Constraint):
    def __init__(self, limit: float):
        self.limit = float(limit)

    def __call__(self, weight: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(weight, -self.limit, self.limit)

    def get_config(self) -> dict[str, Any]:
        return {"limit": self.limit}
