"""A task's logit from a score that tasks share."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class ScaledScore(keras.layers.Layer):
    """o = a s + b, from a = 1 and b = 0, in float32.

    Args:
        l2: Penalty on the square of a.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [B]`. Output shape: `float32 [B]`.

    Example:
        >>> import tensorflow as tf
        >>> ScaledScore()(tf.constant([0.5, -2.0])).numpy().tolist()
        [0.5, -2.0]
    """

    def __init__(self, *, l2: float = 0.0, **kwargs: Any):
        # Half precision has too few digits for a log loss near probability 0 or 1.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates a and b."""
        self._scale = self.add_weight(
            name="scale",
            shape=(),
            initializer="ones",
            regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
        )
        self._bias = self.add_weight(name="bias", shape=(), initializer="zeros")
        super().build(input_shape)

    def call(self, score: tf.Tensor) -> tf.Tensor:
        """Maps `[B]` to logits `float32 [B]`."""
        return self._scale * tf.cast(score, tf.float32) + self._bias

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "l2": self.l2}
