"""FAMO: all losses fall at one rate, at the cost of one backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives.adam_step import adam_step
from tfmtl.objectives.task_weighting import TaskWeighting


@keras.utils.register_keras_serializable(package="tfmtl")
class FAMO(TaskWeighting):
    """Fast adaptive multitask optimization.

        total = sum_k p_k w_k L_k,    w_k = T (z_k / L_k) / sum_i (z_i / L_i),    z = softmax(xi)
        xi <- xi - Adam( z * (c - <z, c>) + decay xi ),    c_k = log L_k - log L_k after the step

    Tasks whose loss fell faster than others in a step, relative to its size, lose weight. The
    losses after the step are those of the same batch by one more evaluation in the mode of
    training, so that they come from the same function; dropout and other noise are drawn anew and
    are noise in c. The weights of the schema multiply the answer, and a task of weight 0 does not
    count. Weights sum to the number of tasks that the batch has.

    Args:
        weights: p_k per task name.
        learning_rate: Learning rate of xi, whose own Adam this is.
        decay: Pull of xi towards 0, which is that of w towards the inverse losses.
        **kwargs: Passed to `keras.layers.Layer`.

    Call argument: dict of scalar task losses, which must be positive: one that is below 0 counts as
    one of a task without rows. Output: scalar.

    Raises:
        ValueError: If there is no task, a weight or the decay is negative or the learning rate is
            not positive.

    References:
        Liu, Feng, Stone and Liu, FAMO: Fast Adaptive Multitask Optimization (NeurIPS 2023),
        algorithm 1.

    Deviations:
        The factor T, with which steps have the size of equal weights. Adam, as in the authors'
        code.

    Example:
        >>> weighting = FAMO({"click": 1.0, "like": 1.0})
        >>> losses = {"click": tf.constant(0.1), "like": tf.constant(0.4)}
        >>> round(float(weighting(losses)), 3)  # weights (1.6, 0.4)
        0.32
    """

    reads_losses_after = True

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        learning_rate: float = 0.025,
        decay: float = 0.01,
        **kwargs: Any,
    ):
        super().__init__(weights, **kwargs)
        if learning_rate <= 0 or decay < 0:
            raise ValueError(
                "expected a learning_rate above 0 and a decay of at least 0; received "
                f"{learning_rate} and {decay}"
            )
        self.learning_rate = float(learning_rate)
        self.decay = float(decay)

    def build(self, input_shape: Any) -> None:
        """Creates xi and the moments of Adam."""
        self.logits = self.add_state("logits")
        self.moments = self.add_state("moments", rows=3)
        super().build(input_shape)

    def present(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Which tasks have a positive loss and a weight above 0, `bool [T]`."""
        return (self.stacked(losses) > 0) & (self.priors > 0)

    def _shares(self, counted: tf.Tensor) -> tf.Tensor:
        shares = tf.nn.softmax(tf.where(counted, self.logits, self.logits.dtype.min))
        return tf.where(counted, shares, 0.0)

    def task_weights(
        self, losses: Mapping[str, tf.Tensor], gram: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The weights p_k w_k, `float32 [T]`; 0 for tasks without rows."""
        stacked, present = self.stacked(losses), self.present(losses)
        inverse = self._shares(present) / tf.where(present, stacked, 1.0)
        number = tf.reduce_sum(tf.cast(present, tf.float32))
        return self.priors * number * tf.math.divide_no_nan(inverse, tf.reduce_sum(inverse))

    def observe(
        self,
        losses: Mapping[str, tf.Tensor],
        *,
        gram: tf.Tensor | None = None,
        after: Mapping[str, tf.Tensor] | None = None,
    ) -> None:
        """Takes one step of xi."""
        assert after is not None
        old, new = self.stacked(losses), self.stacked(after)
        counted = self.present(losses) & self.present(after)
        counted &= tf.math.is_finite(old) & tf.math.is_finite(new)
        falls = tf.math.log(tf.where(counted, old, 1.0)) - tf.math.log(tf.where(counted, new, 1.0))
        shares = self._shares(counted)
        gradient = shares * (falls - tf.reduce_sum(shares * falls)) + self.decay * self.logits
        step = adam_step(self.moments, gradient, counted, self.learning_rate)
        self.logits.assign(self.logits - step)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        options = {"learning_rate": self.learning_rate, "decay": self.decay}
        return {**super().get_config(), **options}
