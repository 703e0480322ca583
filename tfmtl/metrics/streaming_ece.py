"""Expected calibration error over a stream of batches."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.metrics.expected_calibration_error import Binning, check_bins
from tfmtl.metrics.streamed_rows import StreamedRows


@keras.utils.register_keras_serializable(package="tfmtl")
class StreamingECE(keras.metrics.Metric):
    """Expected calibration error of all batches since the last reset.

    With `equal_width` bins it equals `tfmtl.metrics.expected_calibration_error`. Bins of equal
    mass need the rows in order: they are made from cells of equal width on the logit of the
    probability, and the rows of a cell go to one bin together. Only cells that lie across a
    border of two bins can be placed otherwise than their rows, so the result differs from the
    exact one by at most twice their share of sum |label - probability|, which `error_bound`
    returns.

    Keras passes weights to metrics given as `weighted_metrics`, and not to those in `metrics`.

    Args:
        bins: Number of bins. Defaults to 20.
        binning: `equal_mass` or `equal_width`. Defaults to `equal_mass`.
        cells: Cells from which bins of equal mass are made. Defaults to 16384.
        name: Name in the logs. Defaults to `ece`.
        dtype: Type of the result; sums are `float64` always.

    Example:
        >>> metric = StreamingECE(bins=2)
        >>> metric.update_state([0.0, 0.0, 1.0, 1.0], [0.2, 0.2, 0.6, 0.6])
        >>> round(float(metric.result()), 4)
        0.3
    """

    def __init__(
        self,
        *,
        bins: int = 20,
        binning: Binning = "equal_mass",
        cells: int = 16384,
        name: str = "ece",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        check_bins(bins, binning)
        if cells < bins:
            raise ValueError(f"expected at least as many cells as bins, {bins}; received {cells}")
        self.bins = bins
        self.binning = binning
        self.cells = cells
        size = cells if binning == "equal_mass" else bins
        self.mass = self.add_weight("mass", (size,), initializer="zeros", dtype=tf.float64)
        # Sum of weight * (label - probability).
        self.gaps = self.add_weight("gaps", (size,), initializer="zeros", dtype=tf.float64)
        # Sum of weight * |label - probability|, the most that a part of the rows can shift.
        self.spread = self.add_weight("spread", (size,), initializer="zeros", dtype=tf.float64)

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
        if self.binning == "equal_mass":
            place = rows.logit_cells(self.cells)
        else:
            place = self._bin_of(rows.probabilities)
        gaps = rows.weights * (rows.labels - rows.probabilities)
        for variable, values in (
            (self.mass, rows.weights),
            (self.gaps, gaps),
            (self.spread, tf.abs(gaps)),
        ):
            variable.assign_add(tf.math.unsorted_segment_sum(values, place, variable.shape[0]))

    def result(self) -> tf.Tensor:
        """The error between 0 and 1, or NaN before the first row."""
        gaps = tf.convert_to_tensor(self.gaps)
        if self.binning == "equal_mass":
            upper = tf.cumsum(self.mass)
            place = (upper - self.mass / 2) / upper[-1]
            gaps = tf.math.unsorted_segment_sum(gaps, self._bin_of(place), self.bins)
        return tf.cast(tf.reduce_sum(tf.abs(gaps)) / tf.reduce_sum(self.mass), self.dtype)

    def error_bound(self) -> tf.Tensor:
        """How far the result may be from the exact error; 0 for bins of equal width."""
        if self.binning == "equal_width":
            return tf.zeros([], self.dtype)
        upper = tf.cumsum(self.mass)
        # The number of borders below a place tells whether one lies between two places.
        below = [tf.floor(self.bins * edge / upper[-1]) for edge in (upper - self.mass, upper)]
        across = tf.where(below[0] != below[1], self.spread, 0)
        return tf.cast(2 * tf.reduce_sum(across) / upper[-1], self.dtype)

    def _bin_of(self, place: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.minimum(place * self.bins, self.bins - 1), tf.int32)

    def reset_state(self) -> None:
        """Forgets all rows."""
        for variable in (self.mass, self.gaps, self.spread):
            variable.assign(tf.zeros_like(variable))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "bins": self.bins,
            "binning": self.binning,
            "cells": self.cells,
        }
