"""One vector from a row's categorical and numeric context."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

_PARTS = ("deep", "wide")


@keras.utils.register_keras_serializable(package="tfmtl")
class WideAndDeep(keras.layers.Layer):
    """Joins embeddings of categorical features (deep) with powers of numeric ones (wide).

        c_deep = LReLU_{0.2}( [ e_1 ‖ ... ‖ e_F ] W_d + b_d )
        c_wide = LReLU_{0.2}( BN([ x ‖ x^2 ‖ sqrt|x| ]) W_w + b_w )
        y = [ c_deep ‖ c_wide ]

    Each part fills half of the output; where a row has one part only, it fills all of it.

    Shapes: B rows, F categorical features of width d, N numeric features, D `units`.

    Args:
        units: Width D of the output, even where both parts are there.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: A dict of `"deep"`, embeddings `float [B, F, d]` or their concatenation
            `float [B, F d]`, and `"wide"`, numbers `float [B, N]`; either may be left out.

    Output shape: `float [B, D]`.

    Raises:
        ValueError: If `units` is not positive, or odd with two parts, or the inputs have no part
            or one of another name.

    References:
        GRec (CIKM 2023), wide and deep inputs of the released code; Cheng et al., Wide & Deep
        Learning for Recommender Systems, DLRS 2016, for the idea.

    Deviations:
        The released code takes the powers ahead of the model and skips the normalisation where the
        wide part is one column; with the powers made inside, there are three at least. Powers and
        normalisation are in float32 under any policy, and the root has gradient 0 at x = 0.

    Example:
        >>> import tensorflow as tf
        >>> layer = WideAndDeep(8)
        >>> layer({"deep": tf.ones([2, 3, 4]), "wide": tf.ones([2, 5])}).shape
        TensorShape([2, 8])
        >>> WideAndDeep(8)({"wide": tf.ones([2, 5])}).shape
        TensorShape([2, 8])
    """

    def __init__(self, units: int, **kwargs: Any):
        # Numbers such as prices would be infinite in half precision, and their squares sooner.
        super().__init__(autocast=False, **kwargs)
        self.units = int(units)
        if self.units < 1:
            raise ValueError(
                f"expected positive units; received {units}: give the width of the output"
            )

    def build(self, input_shape: Any) -> None:
        """Creates the maps of the parts that `input_shape` has, and the normalisation."""
        parts = sorted(input_shape)
        if not parts or set(parts) - set(_PARTS):
            raise ValueError(
                f"expected a dict of {list(_PARTS)}, or of one of them; received {parts}: name "
                "embeddings 'deep' and numbers 'wide'"
            )
        if self.units % len(parts):
            raise ValueError(
                f"expected even units for two parts; received {self.units}: give an even width"
            )
        self._dense = {}
        for part in parts:
            columns = tf.TensorShape(input_shape[part])[1:].num_elements()
            if part == "wide":
                columns *= 3
                # Keras' own momentum of 0.99 would leave the start in the averages of short
                # trainings.
                self._normalize = keras.layers.BatchNormalization(
                    momentum=0.9, dtype="float32", name="normalize"
                )
                with tf.name_scope(self._normalize.name):
                    self._normalize.build([None, columns])
            dense = keras.layers.Dense(self.units // len(parts), dtype=self.dtype_policy, name=part)
            with tf.name_scope(dense.name):
                dense.build([None, columns])
            self._dense[part] = dense
        super().build(input_shape)

    def call(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Maps embeddings `[B, F, d]` and numbers `[B, N]` to `[B, D]`."""
        outputs = []
        for part, dense in self._dense.items():
            columns = inputs[part]
            if part == "wide":
                columns = self._normalize(_powers(columns), training=training)
            else:
                columns = tf.reshape(columns, [-1, columns.shape[1:].num_elements()])
            outputs.append(tf.nn.leaky_relu(dense(tf.cast(columns, self.compute_dtype)), 0.2))
        return tf.concat(outputs, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "units": self.units}


def _powers(numbers: tf.Tensor) -> tf.Tensor:
    numbers = tf.cast(numbers, tf.float32)
    size = tf.abs(numbers)
    # The root's slope at 0 is infinite, and NaN once a later layer multiplies it by 0.
    root = tf.where(size > 0, tf.sqrt(tf.where(size > 0, size, 1.0)), 0.0)
    return tf.concat([numbers, tf.square(numbers), root], axis=-1)
