"""A stack of dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.dropout import Dropout


@keras.utils.register_keras_serializable(package="tfmtl")
class MLP(keras.layers.Layer):
    """Dense layers with one activation and optional dropout after each.

    Args:
        units: Width of each layer; an empty sequence makes the identity.
        activation: Name of the activation after every layer.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [..., D]`. Output shape: `float [..., units[-1]]`.

    Raises:
        ValueError: If a width is not positive.

    Example:
        >>> import tensorflow as tf
        >>> MLP([32, 8])(tf.ones([4, 16])).shape
        TensorShape([4, 8])
    """

    def __init__(
        self,
        units: Sequence[int],
        *,
        activation: str = "leaky_relu",
        dropout: float = 0.0,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = [int(width) for width in units]
        if any(width < 1 for width in self.units):
            raise ValueError(f"expected positive units; received {list(units)}")
        self.activation = activation
        self.dropout = float(dropout)
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates every dense layer's weights for inputs of `input_shape`."""
        shape = tf.TensorShape(input_shape)
        self._dense, self._drop = [], Dropout(self.dropout, dtype=self.dtype_policy)
        for number, width in enumerate(self.units):
            dense = keras.layers.Dense(
                width,
                activation=self.activation,
                kernel_regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
                dtype=self.dtype_policy,
                name=f"dense_{number}",
            )
            with tf.name_scope(dense.name):
                dense.build(shape)
            self._dense.append(dense)
            shape = shape[:-1].concatenate(width)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps `[..., D]` to `[..., units[-1]]`."""
        outputs = inputs
        for dense in self._dense:
            outputs = dense(outputs)
            if self.dropout:
                outputs = self._drop(outputs, training=training)
        return outputs

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "dropout": self.dropout,
            "l2": self.l2,
        }
