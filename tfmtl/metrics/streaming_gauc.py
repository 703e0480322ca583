"""GAUC over a stream of batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import tensorflow as tf
import tf_keras as keras

from tfmtl.metrics.streamed_rows import StreamedRows


@keras.utils.register_keras_serializable(package="tfmtl")
class StreamingGAUC(keras.metrics.Metric):
    """AUC within users, averaged over users, of all batches since the last reset.

    It equals `tfmtl.metrics.gauc` of the same rows in `float32`. A user's rows may lie in any
    batches, so the rows are kept, 20 bytes each, up to `capacity`; one row more is an error, never
    a silent approximation. Every call of `result` sorts the rows kept, and Keras calls it after
    every batch: meant for validation sets, not for a long epoch of training.

    The user of each row comes in one of two ways:

    - `update_state(labels, probabilities, weights, groups=users)`;
    - in `compile(metrics=...)`, where Keras passes labels and predictions only, as the second
      column of integer labels `[B, 2]`. Floats are refused: `float32` confuses ids above 2**24.

    Rows on several replicas cannot be added up, so it refuses a distribution strategy with more
    than one; use `tfmtl.metrics.gauc` on the gathered predictions there.

    Args:
        capacity: Rows to hold between resets. Defaults to 1000000.
        weighting: `impressions` weights a user by the sum of the weights of their rows, `users`
            by 1. Defaults to `impressions`.
        name: Name in the logs. Defaults to `gauc`.
        dtype: Type of the result.

    Example:
        >>> metric = StreamingGAUC(capacity=6)
        >>> metric.update_state([1, 0, 1], [0.9, 0.1, 0.9], groups=[7, 7, 8])
        >>> metric.update_state([[1, 8], [0, 8], [1, 9]], [0.1, 0.5, 0.5])
        >>> round(float(metric.result()), 4)
        0.7
    """

    def __init__(
        self,
        *,
        capacity: int = 1_000_000,
        weighting: Literal["impressions", "users"] = "impressions",
        name: str = "gauc",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if capacity < 1:
            raise ValueError(f"expected a capacity of at least 1 row; received {capacity}")
        if weighting not in ("impressions", "users"):
            raise ValueError(f"expected weighting 'impressions' or 'users'; received {weighting!r}")
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            raise ValueError(
                f"StreamingGAUC keeps rows on one replica; received a strategy with {replicas}: "
                "use tfmtl.metrics.gauc on the gathered predictions"
            )
        self.capacity = capacity
        self.weighting = weighting
        self.seen = self.add_weight("seen", initializer="zeros", dtype=tf.int32)
        self.groups = self.add_weight("groups", (capacity,), initializer="zeros", dtype=tf.int64)
        # Columns: label, probability, weight.
        self.rows = self.add_weight("rows", (capacity, 3), initializer="zeros", dtype=tf.float32)

    def update_state(
        self,
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
        groups: tf.Tensor | None = None,
    ) -> None:
        """Keeps a batch.

        Args:
            y_true: 0 or 1, `[B]` or `[B, 1]`; or integers (label, user), `[B, 2]`.
            y_pred: Probabilities, `[B]` or `[B, 1]`.
            sample_weight: `[B]` or `[B, 1]`; rows of weight 0 are not kept.
            groups: User of each row, integers `[B]`; without it users come with the labels.

        Raises:
            ValueError: If users come in neither way, or are floats.
            tf.errors.InvalidArgumentError: If the rows exceed the capacity.
        """
        if groups is None:
            y_true = tf.convert_to_tensor(y_true)
            if y_true.shape.rank != 2 or y_true.shape[1] != 2:
                raise ValueError(
                    "StreamingGAUC needs the user of each row: pass groups=, or labels [B, 2] "
                    f"of (label, user); received labels {y_true.shape} without groups"
                )
            y_true, groups = tf.unstack(y_true, axis=1)
        groups = tf.convert_to_tensor(groups)
        if not groups.dtype.is_integer:
            raise ValueError(f"expected users as integers; received {groups.dtype.name}")
        rows = StreamedRows.checked(y_true, y_pred, sample_weight)
        kept = rows.weights > 0
        columns = tf.boolean_mask(tf.cast(tf.stack(rows, axis=1), tf.float32), kept)
        groups = tf.boolean_mask(tf.cast(tf.reshape(groups, [-1]), tf.int64), kept)
        self._keep(columns, groups)

    def _keep(self, columns: tf.Tensor, groups: tf.Tensor) -> None:
        end = self.seen + tf.shape(groups)[0]
        full = tf.debugging.Assert(
            end <= self.capacity,
            [
                f"StreamingGAUC '{self.name}' has room for {self.capacity} rows; raise capacity=, "
                "or use tfmtl.metrics.gauc on the predictions. Rows received:",
                end,
            ],
        )
        with tf.control_dependencies([full]):
            places = tf.range(self.seen, end)[:, tf.newaxis]
        self.groups.scatter_nd_update(places, groups)
        self.rows.scatter_nd_update(places, columns)
        self.seen.assign(end)

    def result(self) -> tf.Tensor:
        """The average, or NaN before a user's rows had both classes."""
        labels, scores, weights = tf.unstack(self.rows[: self.seen], axis=1)
        groups = self.groups[: self.seen]
        # The second sort is stable: by group, and by score within it.
        order = tf.argsort(scores)
        order = tf.gather(order, tf.argsort(tf.gather(groups, order), stable=True))
        labels, weights = (
            tf.cast(tf.gather(column, order), tf.float64) for column in (labels, weights)
        )
        new_group = _changes(tf.gather(groups, order))
        new_run = new_group | _changes(tf.gather(scores, order))
        run, group = (tf.cumsum(tf.cast(new, tf.int32)) - 1 for new in (new_run, new_group))
        group_of_run = tf.boolean_mask(group, new_run)

        positives = tf.math.segment_sum(weights * labels, run)
        negatives = tf.math.segment_sum(weights * (1 - labels), run)
        group_positives = tf.math.segment_sum(positives, group_of_run)
        group_negatives = tf.math.segment_sum(negatives, group_of_run)
        before = tf.cumsum(group_negatives, exclusive=True)
        below = tf.cumsum(negatives, exclusive=True) - tf.gather(before, group_of_run)
        wins = tf.math.segment_sum(positives * (below + negatives / 2), group_of_run)
        pairs = group_positives * group_negatives
        shares = group_positives + group_negatives
        if self.weighting == "users":
            shares = tf.ones_like(shares)
        shares = tf.where(pairs > 0, shares, 0)
        areas = tf.math.divide_no_nan(wins, pairs)
        return tf.cast(tf.reduce_sum(shares * areas) / tf.reduce_sum(shares), self.dtype)

    def merge_state(self, metrics: Iterable[StreamingGAUC]) -> None:
        """Keeps the rows of other metrics too.

        Args:
            metrics: Metrics over other rows.
        """
        for metric in metrics:
            self._keep(metric.rows[: metric.seen], metric.groups[: metric.seen])

    def reset_state(self) -> None:
        """Forgets all rows."""
        self.seen.assign(0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "capacity": self.capacity,
            "weighting": self.weighting,
        }


def _changes(values: tf.Tensor) -> tf.Tensor:
    """Whether each value differs from the one before it; true for the first."""
    first = tf.ones([tf.minimum(tf.size(values), 1)], tf.bool)
    return tf.concat([first, values[1:] != values[:-1]], axis=0)
