"""One batch of rows as a streaming metric takes them in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfmtl.metrics.log_loss import CLIP

_LARGEST_LOGIT = float(np.log(1 - CLIP) - np.log(CLIP))


class StreamedRows(NamedTuple):
    """Labels, probabilities and weights of a batch, all `float64 [B]`.

    Args:
        labels: 0 or 1; 0 in rows of weight 0.
        probabilities: Between 0 and 1; 0 in rows of weight 0.
        weights: At least 0.

    Example:
        >>> batch = StreamedRows.checked([[1.0], [float("nan")]], [[0.5], [0.5]], [1.0, 0.0])
        >>> batch.labels.numpy()
        array([1., 0.])
    """

    labels: tf.Tensor
    probabilities: tf.Tensor
    weights: tf.Tensor

    @classmethod
    def checked(
        cls, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None
    ) -> StreamedRows:
        """Flattens the arguments of `update_state` and checks the rows of positive weight.

        Args:
            y_true: `[B]` or `[B, 1]`.
            y_pred: `[B]` or `[B, 1]`.
            sample_weight: `[B]` or `[B, 1]`, or a number for all rows.

        Raises:
            tf.errors.InvalidArgumentError: If a row that counts has a label other than 0 and 1,
                or a probability outside [0, 1], as NaN is.
        """
        labels, probabilities = (
            tf.reshape(tf.cast(values, tf.float64), [-1]) for values in (y_true, y_pred)
        )
        weights = tf.cast(1 if sample_weight is None else sample_weight, tf.float64)
        weights = tf.broadcast_to(tf.reshape(weights, [-1]), tf.shape(labels))
        counts = weights > 0
        labels = tf.where(counts, labels, 0)
        probabilities = tf.where(counts, probabilities, 0)
        checks = [
            tf.debugging.Assert(
                tf.reduce_all((labels == 0) | (labels == 1)),
                ["expected labels 0 and 1 (rows without a label need weight 0); received", labels],
            ),
            tf.debugging.Assert(
                tf.reduce_all((probabilities >= 0) & (probabilities <= 1)),
                ["expected probabilities between 0 and 1; received", probabilities],
            ),
        ]
        # In a graph, so that a refused batch leaves no trace in the metric.
        with tf.control_dependencies(checks):
            return cls(*map(tf.identity, (labels, probabilities, weights)))

    def logit_cells(self, cells: int) -> tf.Tensor:
        """Index of the probability in a grid of `cells` equal steps of its logit, `int32 [B]`.

        The grid spans the logits of [1e-7, 1 - 1e-7]; what lies beyond falls into its ends.
        """
        logits = tf.math.log(self.probabilities) - tf.math.log1p(-self.probabilities)
        place = (logits / _LARGEST_LOGIT + 1) / 2
        return tf.cast(tf.clip_by_value(place * cells, 0, cells - 1), tf.int32)
