"""Joins what the macro graph and the recent neighbours tell."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.dice import Dice
from tfmtl.layers.dropout import Dropout


@keras.utils.register_keras_serializable(package="tfmtl")
class MacroMicroFusion(keras.layers.Layer):
    """One dense layer over macro state z and micro state r, which all tasks share.

        f = Dice( W [ z || r ] + b )

    Tasks stacked as `[B, T, D]` share the statistics of `Dice` in training as they do afterwards.

    Args:
        units: Width H of the output.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared kernel.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: [ z || r ], `float [B, D]` or `float [B, T, D]`. Output shape: `float [..., H]`.

    Raises:
        ValueError: If `units` is not positive.

    References:
        MGOE Figure 2, macro and micro fusion; MacGNN, released code, for width and activation.

    Deviations:
        The form is our own: MGOE's figure shows one block after the macro graph bottom.

    Example:
        >>> import tensorflow as tf
        >>> MacroMicroFusion(8)(tf.ones([3, 2, 28])).shape
        TensorShape([3, 2, 8])
    """

    def __init__(self, units: int = 200, *, dropout: float = 0.0, l2: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = int(units)
        if self.units < 1:
            raise ValueError(f"expected positive units; received {units}")
        self.dropout = float(dropout)
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates the dense layer and its activation."""
        shape = tf.TensorShape(input_shape)
        self._dense = keras.layers.Dense(
            self.units,
            kernel_regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            dtype=self.dtype_policy,
            name="dense",
        )
        self._activation = Dice(dtype=self.dtype_policy, name="activation")
        for layer, layer_shape in (
            (self._dense, shape),
            (self._activation, shape[:-1].concatenate(self.units)),
        ):
            with tf.name_scope(layer.name):
                layer.build(layer_shape)
        self._drop = Dropout(self.dropout, dtype=self.dtype_policy)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps `[..., D]` to f `[..., H]`."""
        outputs = self._activation(self._dense(inputs), training=training)
        return self._drop(outputs, training=training) if self.dropout else outputs

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "dropout": self.dropout,
            "l2": self.l2,
        }
