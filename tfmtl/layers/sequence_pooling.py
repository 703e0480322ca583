"""One vector from a sequence of any length."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class SequencePooling(keras.layers.Layer):
    """Mean and maximum over the positions that there are, and two linear maps.

        y = ([ mean_l x_l ‖ max_l x_l ] W_1 + b_1) W_2 + b_2

    Mean and maximum of an empty row are 0, so that all empty rows share one learned vector.

    Shapes: B rows, L positions, D width of a state, K `units`.

    Args:
        units: Width K of the output; None for D.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: States `float [B, L, D]`.
        mask: `bool [B, L]`, the positions that there are; None for all.

    Output shape: `float [B, K]`.

    Raises:
        ValueError: If `units` is not positive.

    References:
        GRec (CIKM 2023), sequence encoder of the released code.

    Deviations:
        The released mean sums padded positions too, and its maximum ignores the length: both are
        over valid positions here. The mean is taken in float32 under any policy.

    Example:
        >>> import tensorflow as tf
        >>> states, mask = tf.ones([2, 3, 4]), tf.constant([[True, True, False], [False] * 3])
        >>> SequencePooling(8)(states, mask).shape
        TensorShape([2, 8])
    """

    def __init__(self, units: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = None if units is None else int(units)
        if self.units is not None and self.units < 1:
            raise ValueError(
                f"expected positive units; received {units}: give the width of the output, or "
                "None for that of the states"
            )

    def build(self, input_shape: Any) -> None:
        """Creates both linear maps for states of `input_shape` `[B, L, D]`."""
        width = int(tf.TensorShape(input_shape)[-1])
        units = self.units or width
        self._inner, self._outer = (
            keras.layers.Dense(units, dtype=self.dtype_policy, name=name)
            for name in ("inner", "outer")
        )
        for layer, size in ((self._inner, 2 * width), (self._outer, units)):
            with tf.name_scope(layer.name):
                layer.build([None, size])
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Maps states `[B, L, D]` to `[B, K]`."""
        if mask is None:
            mask = tf.ones(tf.shape(inputs)[:2], tf.bool)
        valid = mask[:, :, tf.newaxis]
        # Sums over long sequences overflow in half precision.
        total = tf.reduce_sum(tf.where(valid, tf.cast(inputs, tf.float32), 0.0), axis=1)
        count = tf.reduce_sum(tf.cast(valid, tf.float32), axis=1)
        mean = tf.cast(total / tf.maximum(count, 1.0), inputs.dtype)
        highest = tf.reduce_max(tf.where(valid, inputs, inputs.dtype.min), axis=1)
        highest = tf.where(count > 0, highest, tf.zeros([], inputs.dtype))
        return self._outer(self._inner(tf.concat([mean, highest], axis=-1)))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "units": self.units}
