"""Fixed task weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class StaticWeighting(keras.layers.Layer):
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

    def __init__(self, weights: Mapping[str, float], **kwargs: Any):
        # Half precision would round small weights away.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.weights_by_task = {name: float(weight) for name, weight in weights.items()}
        if not self.weights_by_task or min(self.weights_by_task.values()) < 0:
            raise ValueError(f"expected a weight >= 0 per task; received {dict(weights)}")

    def call(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Weighted sum of scalar losses."""
        return tf.add_n([weight * losses[name] for name, weight in self.weights_by_task.items()])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "weights": dict(self.weights_by_task)}
