"""Homoscedastic uncertainty weighting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives.task_weighting import TaskWeighting
from tfmtl.objectives.within import Within


@keras.utils.register_keras_serializable(package="tfmtl")
class UncertaintyWeighting(TaskWeighting):
    """Total loss sum_k exp(-s_k) L_k + s_k with learned s_k = log sigma_k^2, s_k(0) = 0.

    The weight of a task settles at exp(-s_k) = 1 / L_k, so a rare behaviour with a loss of .005
    would be multiplied by 200: s_k stays within [-limit, limit]. The total may be negative; the
    task losses are reported apart from it. A loss of exactly 0 belongs to a task without a defined
    row in the batch; it adds nothing, or s_k would drift to its bound on batches that say nothing
    about the task. A factor on a loss is undone by its weight, so that there are no weights of the
    schema here.

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
        if not tasks or limit <= 0:
            raise ValueError(
                f"expected at least one task and a positive limit; received {tasks}, {limit}"
            )
        super().__init__(dict.fromkeys(tasks, 1.0), **kwargs)
        self.tasks = list(tasks)
        self.limit = float(limit)

    def build(self, input_shape: Any) -> None:
        """Creates s, one number per task."""
        self.log_variance = self.add_weight(
            name="log_variance",
            shape=(len(self.tasks),),
            initializer="zeros",
            constraint=Within(self.limit),
        )
        super().build(input_shape)

    def task_weights(
        self, losses: Mapping[str, tf.Tensor], gram: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The weights exp(-s_k), `float32 [T]`."""
        return tf.exp(-self.log_variance)

    def call(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Uncertainty-weighted sum of scalar losses."""
        stacked = self.stacked(losses)
        terms = tf.exp(-self.log_variance) * stacked + self.log_variance
        return tf.reduce_sum(tf.where(stacked == 0, 0.0, terms))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {**super().get_config(), "tasks": self.tasks, "limit": self.limit}
        del config["weights"]
        return config
