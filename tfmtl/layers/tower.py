"""The last network of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.mlp import MLP


@keras.utils.register_keras_serializable(package="tfmtl")
class Tower(keras.layers.Layer):
    """Hidden layers and one logit in float32.

    Args:
        units: Widths of the hidden layers; empty gives o = v^T x + b.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [B, D]`. Output shape: `float32 [B]`.

    Example:
        >>> import tensorflow as tf
        >>> Tower([8])(tf.ones([3, 16])).shape
        TensorShape([3])
    """

    def __init__(
        self, units: Sequence[int] = (), *, dropout: float = 0.0, l2: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.units = [int(width) for width in units]
        self.dropout = float(dropout)
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates the hidden layers and the output vector."""
        self._hidden = MLP(
            self.units, dropout=self.dropout, l2=self.l2, dtype=self.dtype_policy, name="hidden"
        )
        with tf.name_scope(self._hidden.name):
            self._hidden.build(input_shape)
        width = self.units[-1] if self.units else tf.TensorShape(input_shape)[-1]
        # Half precision has too few digits for a log loss near probability 0 or 1.
        self._logit = keras.layers.Dense(
            1,
            kernel_regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            dtype="float32",
            name="logit",
        )
        with tf.name_scope(self._logit.name):
            self._logit.build(tf.TensorShape([None, width]))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps `[B, D]` to logits `float32 [B]`."""
        hidden = self._hidden(inputs, training=training)
        return tf.squeeze(self._logit(tf.cast(hidden, tf.float32)), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "dropout": self.dropout,
            "l2": self.l2,
        }
