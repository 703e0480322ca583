"""Log loss over a stream of batches."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.metrics.log_loss import CLIP
from tfmtl.metrics.streamed_rows import StreamedRows


@keras.utils.register_keras_serializable(package="tfmtl")
class StreamingLogLoss(keras.metrics.Metric):
    """Weighted mean log loss of all rows since the last reset.

    It equals `tfmtl.metrics.log_loss` of all rows together, however they were cut into batches.

    Keras passes weights to metrics given as `weighted_metrics`, and not to those in `metrics`.

    Args:
        name: Name in the logs. Defaults to `log_loss`.
        dtype: Type of the result; sums are `float64` always.

    Example:
        >>> metric = StreamingLogLoss()
        >>> metric.update_state([1.0, 0.0], [0.5, 0.2])
        >>> round(float(metric.result()), 4)
        0.4581
    """

    def __init__(self, *, name: str = "log_loss", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_weight("total", initializer="zeros", dtype=tf.float64)
        self.mass = self.add_weight("mass", initializer="zeros", dtype=tf.float64)

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        """Adds a batch.

        Args:
            y_true: 0 or 1, `[B]` or `[B, 1]`.
            y_pred: Probabilities, `[B]` or `[B, 1]`.
            sample_weight: `[B]` or `[B, 1]`; rows of weight 0 may hold anything.
        """
        rows = StreamedRows.checked(y_true, y_pred, sample_weight)
        clipped = tf.clip_by_value(rows.probabilities, CLIP, 1 - CLIP)
        losses = -tf.where(rows.labels == 1, tf.math.log(clipped), tf.math.log1p(-clipped))
        self.total.assign_add(tf.reduce_sum(rows.weights * losses))
        self.mass.assign_add(tf.reduce_sum(rows.weights))

    def result(self) -> tf.Tensor:
        """The mean in nats, or NaN before the first row."""
        return tf.cast(self.total / self.mass, self.dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config()
