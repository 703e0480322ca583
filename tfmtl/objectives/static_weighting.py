"""Fixed task weights."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives.task_weighting import TaskWeighting


@keras.utils.register_keras_serializable(package="tfmtl")
class StaticWeighting(TaskWeighting):
    """Total loss sum_k w_k L_k with the weights the tasks declare.

    Args:
        weights: Weight per task name.
        **kwargs: Passed to `keras.layers.Layer`.

    Call argument: dict of scalar task losses. Output: scalar.

    Raises:
        ValueError: If there is no task or a weight is negative.

    Example:
        >>> import tensorflow as tf
        >>> weighting = StaticWeighting({"click": 1.0, "like": 0.5})
        >>> float(weighting({"click": tf.constant(2.0), "like": tf.constant(4.0)}))
        4.0
    """

    def task_weights(
        self, losses: Mapping[str, tf.Tensor], gram: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The weights the tasks declare, `float32 [T]`."""
        return self.priors

    def call(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Weighted sum of scalar losses."""
        return tf.add_n([weight * losses[name] for name, weight in self.weights_by_task.items()])
