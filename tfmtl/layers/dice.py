"""An activation that bends where the data is."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class Dice(keras.layers.Layer):
    """Leaky rectifier whose bend is smooth and lies at the mean of each channel.

        p = sigmoid( (x - mean) / sqrt(variance + epsilon) ),    y = p x + (1 - p) alpha x

    Mean and variance are those of the batch in training and moving averages elsewhere; alpha is
    learned, one number per channel, and starts at 0.

    Args:
        momentum: Share of the moving averages that a step keeps.
        epsilon: Added to the variance.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [..., C]`. Output shape: the same. Statistics are over all axes but the
    last.

    Raises:
        ValueError: If `momentum` is out of range or `epsilon` is not positive.

    References:
        Zhou et al., Deep Interest Network for Click-Through Rate Prediction (KDD 2018), data
        adaptive activation function.

    Deviations:
        MacGNN's released Dice takes the statistics of the batch at inference too, so that a row's
        output depends on the rows beside it, and has one alpha for all channels.

    Example:
        >>> import tensorflow as tf
        >>> Dice()(tf.constant([[2.0, -2.0]])).numpy().round(2)
        array([[ 1.76, -0.24]], dtype=float32)
    """

    def __init__(self, *, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs)
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)
        if not 0 <= self.momentum < 1 or self.epsilon <= 0:
            raise ValueError(
                "expected momentum from 0 to below 1 and a positive epsilon; "
                f"received momentum={momentum}, epsilon={epsilon}"
            )

    def build(self, input_shape: Any) -> None:
        """Creates alpha and the moving averages."""
        self._channels = int(tf.TensorShape(input_shape)[-1])
        self._alpha = self.add_weight(name="alpha", shape=(self._channels,), initializer="zeros")
        # Half precision has no number for the variance of inputs in the hundreds.
        self._normalize = keras.layers.BatchNormalization(
            momentum=self.momentum,
            epsilon=self.epsilon,
            center=False,
            scale=False,
            dtype="float32",
            name="normalization",
        )
        with tf.name_scope(self._normalize.name):
            self._normalize.build(tf.TensorShape([None, self._channels]))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps `[..., C]` to the same shape."""
        flat = tf.reshape(inputs, [-1, self._channels])
        gate = tf.sigmoid(self._normalize(tf.cast(flat, tf.float32), training=training))
        gate = tf.reshape(tf.cast(gate, inputs.dtype), tf.shape(inputs))
        outputs = inputs * (gate + (1 - gate) * tf.cast(self._alpha, inputs.dtype))
        return tf.ensure_shape(outputs, inputs.shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}
