"""Root mean square normalisation."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class RMSNorm(keras.layers.Layer):
    """Divides each vector by the root of its mean square, and scales each coordinate.

        y = scale ⊙ x / sqrt(mean(x^2) + epsilon)

    Unlike layer normalisation it subtracts no mean and adds no bias. Vectors of zeros stay zeros.

    Args:
        epsilon: Added to the mean square.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [..., D]`. Output shape: `float [..., D]`.

    Raises:
        ValueError: If `epsilon` is not positive.

    References:
        Zhang and Sennrich, Root Mean Square Layer Normalization, NeurIPS 2019, equation 4.

    Deviations:
        The mean is in float32 under any policy.

    Example:
        >>> RMSNorm()(tf.constant([[3.0, -3.0]])).numpy().round(4).tolist()
        [[1.0, -1.0]]
    """

    def __init__(self, *, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        # Keras hands the mask of a sequence on to the layer after the norm.
        self.supports_masking = True
        self.epsilon = float(epsilon)
        if not self.epsilon > 0:
            raise ValueError(
                f"expected a positive epsilon; received {epsilon}: without it a vector of zeros "
                "is divided by zero"
            )

    def build(self, input_shape: Any) -> None:
        """Creates the scale for vectors of `input_shape` `[..., D]`."""
        width = int(tf.TensorShape(input_shape)[-1])
        self._scale = self.add_weight(name="scale", shape=(width,), initializer="ones")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps `[..., D]` to itself."""
        # The mean of squares overflows in half precision.
        full = tf.cast(inputs, tf.float32)
        mean = tf.reduce_mean(tf.square(full), axis=-1, keepdims=True)
        normed = tf.cast(full * tf.math.rsqrt(mean + self.epsilon), inputs.dtype)
        return normed * tf.cast(self._scale, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}
