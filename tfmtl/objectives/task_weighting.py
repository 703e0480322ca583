"""What all weightings of task losses share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class TaskWeighting(keras.layers.Layer):
    """Base of the weightings: one total of the task losses, and the weight of each in it.

        total = sum_k p_k w_k L_k

    with p_k the weight that the schema gives a task and w_k what the subclass makes of the run. A
    subclass says in `task_weights` what p_k w_k is and, if it learns from the run, keeps what it
    learned in weights of its own that `observe` and `end_epoch` change. A loss of exactly 0 belongs
    to a task without a defined row in the batch: it changes nothing that is kept of the task.

    `reads_gradients` asks the training step for the Gram matrix of the tasks' gradients,
    `reads_losses_after` for the losses of the same batch after the step.

    Args:
        weights: p_k per task name.
        **kwargs: Passed to `keras.layers.Layer`.

    Call argument: dict of scalar task losses. Output: scalar.

    Raises:
        ValueError: If there is no task or a weight is negative.

    Example:
        >>> class Halved(TaskWeighting):
        ...     def task_weights(self, losses, gram=None):
        ...         return self.priors / 2
        >>> float(Halved({"click": 1.0, "like": 3.0})({"click": tf.ones([]), "like": tf.ones([])}))
        2.0
    """

    reads_gradients = False
    reads_losses_after = False

    def __init__(self, weights: Mapping[str, float], **kwargs: Any):
        # Half precision would round small weights away.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.weights_by_task = {name: float(weight) for name, weight in weights.items()}
        if not self.weights_by_task or min(self.weights_by_task.values()) < 0:
            raise ValueError(f"expected a weight >= 0 per task; received {dict(weights)}")

    @property
    def priors(self) -> tf.Tensor:
        """The weights p_k, `float32 [T]`."""
        return tf.constant(list(self.weights_by_task.values()))

    def stacked(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The losses as `float32 [T]`, in the order of the tasks."""
        return tf.stack([tf.cast(losses[name], tf.float32) for name in self.weights_by_task])

    def present(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Which tasks have a defined row in the batch and a weight above 0, `bool [T]`."""
        return (self.stacked(losses) != 0) & (self.priors > 0)

    def add_state(self, name: str, value: float = 0.0, rows: int | None = None) -> tf.Variable:
        """A variable of one number per task that the model's optimiser leaves alone.

        Args:
            name: Its name.
            value: What it holds at first.
            rows: Makes it `[rows, T]`.
        """
        tasks = len(self.weights_by_task)
        return self.add_weight(
            name=name,
            shape=(tasks,) if rows is None else (rows, tasks),
            initializer=keras.initializers.Constant(value),
            trainable=False,
            # Replicas that each saw a part of the batch go on from their mean.
            aggregation=tf.VariableAggregation.MEAN,
        )

    def task_weights(
        self, losses: Mapping[str, tf.Tensor], gram: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The weights p_k w_k of one step; changes no state.

        Args:
            losses: Scalar task losses.
            gram: Inner products of the tasks' gradients, `float32 [T, T]`, for a weighting that
                reads them.

        Returns:
            `float32 [T]`, in the order of the tasks.
        """
        raise NotImplementedError

    def call(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Weighted sum of scalar losses; the weights are constants to the gradient."""
        terms = tf.stop_gradient(self.task_weights(losses)) * self.stacked(losses)
        return tf.reduce_sum(tf.where(self.stacked(losses) == 0, 0.0, terms))

    def observe(
        self,
        losses: Mapping[str, tf.Tensor],
        *,
        gram: tf.Tensor | None = None,
        after: Mapping[str, tf.Tensor] | None = None,
    ) -> None:
        """Learns from a step of training: nothing here.

        Args:
            losses: Scalar task losses before the step.
            gram: As in `task_weights`.
            after: Scalar task losses of the same batch after the step, where the weighting reads
                them.
        """
        del losses, gram, after

    def end_epoch(self) -> None:
        """Learns from the epoch that has ended: nothing here. `fit` calls it, other loops must."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "weights": dict(self.weights_by_task)}
