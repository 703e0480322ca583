"""GradNorm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives.adam_step import adam_step
from tfmtl.objectives.task_weighting import TaskWeighting

_LEAST = 1e-3


@keras.utils.register_keras_serializable(package="tfmtl")
class GradNorm(TaskWeighting):
    """Loss weights under which tasks pull at the shared weights alike, slower ones harder.

        total = sum_k p_k w_k L_k
        G_k = w_k |g_k|,    r_k = (L_k / L_k(0)) / mean_i(L_i / L_i(0))
        w <- w - Adam( d/dw sum_k | G_k - mean_i(G_i) r_k^alpha | )    the target being a constant

    with g_k the gradient of L_k on the shared weights and L_k(0) the task's first loss. After each
    step the weights are scaled to the sum that they had, which is the number of tasks. Norms are
    those of the losses without the weights p_k of the schema, which multiply the answer: at alpha =
    0 they are the shares that tasks have in the pull. A task of weight 0 does not count.

    Args:
        weights: p_k per task name.
        alpha: How much harder a task pulls that learns more slowly than others; at 0 all pull
            alike.
        learning_rate: Learning rate of the weights, whose own Adam this is.
        **kwargs: Passed to `keras.layers.Layer`.

    Call argument: dict of scalar task losses. Output: scalar.

    Raises:
        ValueError: If there is no task, a weight or alpha is negative or the learning rate is not
            positive.

    References:
        Chen, Badrinarayanan, Lee and Rabinovich, GradNorm: Gradient Normalization for Adaptive Loss
        Balancing in Deep Multitask Networks (ICML 2018), equations 1 and 2 and algorithm 1.

    Deviations:
        Norms are taken over all dense weights that tasks share, where the paper takes those of the
        last shared layer. No weight falls below 0.001, where it would be without gradient.

    Example:
        >>> weighting = GradNorm({"click": 1.0, "like": 1.0}, alpha=0.0)
        >>> losses = {"click": tf.constant(1.0), "like": tf.constant(1.0)}
        >>> _ = weighting(losses)
        >>> weighting.observe(losses, gram=tf.constant([[9.0, 0], [0, 1]]))
        >>> weighting.task_weights(losses).numpy().round(3)
        array([0.975, 1.025], dtype=float32)
    """

    reads_gradients = True

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        alpha: float = 1.5,
        learning_rate: float = 0.025,
        **kwargs: Any,
    ):
        super().__init__(weights, **kwargs)
        if alpha < 0 or learning_rate <= 0:
            raise ValueError(
                "expected alpha of at least 0 and a learning_rate above 0; received "
                f"{alpha} and {learning_rate}"
            )
        self.alpha = float(alpha)
        self.learning_rate = float(learning_rate)

    def build(self, input_shape: Any) -> None:
        """Creates the weights w, the first losses and the moments of Adam."""
        self.loss_weights = self.add_state("loss_weights", 1.0)
        self.first_losses = self.add_state("first_losses")
        self.moments = self.add_state("moments", rows=3)
        super().build(input_shape)

    def task_weights(
        self, losses: Mapping[str, tf.Tensor], gram: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The weights p_k w_k, `float32 [T]`."""
        return self.priors * self.loss_weights

    def observe(
        self,
        losses: Mapping[str, tf.Tensor],
        *,
        gram: tf.Tensor | None = None,
        after: Mapping[str, tf.Tensor] | None = None,
    ) -> None:
        """Takes one step of the weights towards their targets."""
        assert gram is not None
        stacked, old = self.stacked(losses), self.loss_weights + 0.0
        norms = tf.sqrt(tf.linalg.diag_part(gram))
        counted = self.present(losses) & tf.math.is_finite(stacked) & tf.math.is_finite(norms)
        first = tf.where(counted & (self.first_losses == 0), stacked, self.first_losses)
        self.first_losses.assign(first)

        def mean(values: tf.Tensor) -> tf.Tensor:
            number = tf.reduce_sum(tf.cast(counted, tf.float32))
            return tf.math.divide_no_nan(tf.reduce_sum(tf.where(counted, values, 0.0)), number)

        progress = tf.math.divide_no_nan(stacked, first)
        rates = tf.math.divide_no_nan(progress, mean(progress))
        pulls = old * norms
        # A rate of 0 or below is that of a loss below 0, which has no power.
        targets = mean(pulls) * tf.pow(tf.maximum(rates, 0.0), self.alpha)
        gradient = tf.sign(pulls - targets) * norms
        step = adam_step(self.moments, gradient, counted, self.learning_rate)
        new = tf.where(counted, tf.maximum(old - step, _LEAST), 0.0)
        before = tf.reduce_sum(tf.where(counted, old, 0.0))
        new *= tf.math.divide_no_nan(before, tf.reduce_sum(new))
        self.loss_weights.assign(tf.where(counted, new, old))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        options = {"alpha": self.alpha, "learning_rate": self.learning_rate}
        return {**super().get_config(), **options}
