"""Dynamic weight averaging."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives.task_weighting import TaskWeighting


@keras.utils.register_keras_serializable(package="tfmtl")
class DynamicWeightAveraging(TaskWeighting):
    """More weight for tasks whose loss fell less from epoch to epoch.

        w_k = T exp(r_k / tau) / sum_i exp(r_i / tau),    r_k = L_k(t - 1) / L_k(t - 2)

    with L_k(t) the mean loss of epoch t and r_k = 1 until a task has two epochs. The weights sum to
    the number of tasks T; those of the schema multiply them, and a task of weight 0 does not count.
    An epoch without a defined row of a task is passed over for that task.

    Args:
        weights: Weight of the schema per task name.
        temperature: tau; the larger, the more alike the weights.
        **kwargs: Passed to `keras.layers.Layer`.

    Call argument: dict of scalar task losses. Output: scalar.

    Raises:
        ValueError: If there is no task, a weight is negative or the temperature is not positive.

    References:
        Liu, Johns and Davison, End-to-End Multi-Task Learning with Attention (CVPR 2019),
        equation 7.

    Example:
        >>> weighting = DynamicWeightAveraging({"click": 1.0, "like": 1.0})
        >>> float(weighting({"click": tf.constant(2.0), "like": tf.constant(4.0)}))
        6.0
    """

    def __init__(self, weights: Mapping[str, float], *, temperature: float = 2.0, **kwargs: Any):
        super().__init__(weights, **kwargs)
        if temperature <= 0:
            raise ValueError(
                f"expected a temperature above 0; received {temperature}: the paper's is 2"
            )
        self.temperature = float(temperature)

    def build(self, input_shape: Any) -> None:
        """Creates the sums of the epoch under way and the means of the last two."""
        self.sums = self.add_state("sums", rows=2)
        self.history = self.add_state("history", rows=2)
        super().build(input_shape)

    def task_weights(
        self, losses: Mapping[str, tf.Tensor], gram: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The weights of the epoch, `float32 [T]`."""
        last, before = tf.unstack(self.history)
        ratios = tf.where((last != 0) & (before != 0), tf.math.divide_no_nan(last, before), 1.0)
        counted = self.priors > 0
        scores = tf.where(counted, ratios / self.temperature, ratios.dtype.min)
        number = tf.reduce_sum(tf.cast(counted, tf.float32))
        return self.priors * number * tf.nn.softmax(scores)

    def observe(
        self,
        losses: Mapping[str, tf.Tensor],
        *,
        gram: tf.Tensor | None = None,
        after: Mapping[str, tf.Tensor] | None = None,
    ) -> None:
        """Adds the losses of a batch to the epoch's."""
        stacked = self.stacked(losses)
        counted = self.present(losses) & tf.math.is_finite(stacked)
        added = tf.stack([tf.where(counted, stacked, 0.0), tf.cast(counted, tf.float32)])
        self.sums.assign(self.sums + added)

    def end_epoch(self) -> None:
        """Makes the epoch's mean losses the last ones."""
        sums, counts = tf.unstack(self.sums)
        means = tf.stack([tf.math.divide_no_nan(sums, counts), self.history[0]])
        self.history.assign(tf.where(counts > 0, means, self.history))
        self.sums.assign(tf.zeros_like(self.sums))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "temperature": self.temperature}
