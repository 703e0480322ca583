"""One vector from a row's categorical and numeric context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.mlp import MLP

_PARTS = ("deep", "wide")
# Numbers of less than this size have a line in place of the root.
_LINEAR = 1e-4


@keras.utils.register_keras_serializable(package="tfmtl")
class WideAndDeep(keras.layers.Layer):
    """Joins embeddings of categorical features (deep) with powers of numeric ones (wide).

        c_deep = LReLU_{0.2}( MLP([ e_1 ‖ ... ‖ e_F ]) W_d + b_d )
        c_wide = LReLU_{0.2}( BN([ x ‖ x^2 ‖ sqrt|x| ]) W_w + b_w )
        y = [ c_deep ‖ c_wide ]

    Each part fills half of the output; where a row has one part only, it fills all of it.

    Shapes: B rows, F categorical features of width d, N numeric features, D `units`.

    Args:
        units: Width D of the output, even where both parts are there.
        deep_units: Hidden widths of the deep part; none in the release.
        powers: Whether numbers are read with their powers, as raw amounts want; x alone otherwise.
        joint: Whether the deep part also reads the normalised powers, so that it crosses both.
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
        normalisation are in float32 under any policy. The root has gradient 0 at x = 0 and is a
        line up to |x| = 0.0001, below which rounding would show in it.

    Example:
        >>> import tensorflow as tf
        >>> layer = WideAndDeep(8)
        >>> layer({"deep": tf.ones([2, 3, 4]), "wide": tf.ones([2, 5])}).shape
        TensorShape([2, 8])
        >>> WideAndDeep(8)({"wide": tf.ones([2, 5])}).shape
        TensorShape([2, 8])
    """

    def __init__(
        self,
        units: int,
        *,
        deep_units: Sequence[int] = (),
        powers: bool = True,
        joint: bool = False,
        **kwargs: Any,
    ):
        # Numbers such as prices would be infinite in half precision, and their squares sooner.
        super().__init__(autocast=False, **kwargs)
        self.units = int(units)
        self.deep_units = [int(width) for width in deep_units]
        self.powers = bool(powers)
        self.joint = bool(joint)
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
        columns_of = {part: tf.TensorShape(input_shape[part])[1:].num_elements() for part in parts}
        for part in parts:
            columns = columns_of[part]
            if part == "wide":
                columns *= 3 if self.powers else 1
                # Keras' own momentum of 0.99 would leave the start in the averages of short
                # trainings, a small one the noise of squares.
                self._normalize = keras.layers.BatchNormalization(
                    momentum=0.98, dtype="float32", name="normalize"
                )
                with tf.name_scope(self._normalize.name):
                    self._normalize.build([None, columns])
            else:
                if self.joint:
                    columns += (3 if self.powers else 1) * columns_of.get("wide", 0)
                self._hidden = MLP(self.deep_units, dtype=self.dtype_policy, name="hidden")
                with tf.name_scope(self._hidden.name):
                    self._hidden.build([None, columns])
                columns = self.deep_units[-1] if self.deep_units else columns
            dense = keras.layers.Dense(self.units // len(parts), dtype=self.dtype_policy, name=part)
            with tf.name_scope(dense.name):
                dense.build([None, columns])
            self._dense[part] = dense
        super().build(input_shape)

    def call(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Maps embeddings `[B, F, d]` and numbers `[B, N]` to `[B, D]`."""
        columns = {}
        if "wide" in self._dense:
            numbers = tf.cast(inputs["wide"], tf.float32)
            numbers = self._normalize(
                _powers(numbers) if self.powers else numbers, training=training
            )
            columns["wide"] = tf.cast(numbers, self.compute_dtype)
        if "deep" in self._dense:
            deep = inputs["deep"]
            deep = tf.reshape(deep, [-1, deep.shape[1:].num_elements()])
            deep = tf.cast(deep, self.compute_dtype)
            if self.joint and "wide" in columns:
                deep = tf.concat([deep, columns["wide"]], axis=-1)
            columns["deep"] = self._hidden(deep)
        outputs = [dense(columns[part]) for part, dense in self._dense.items()]
        return tf.nn.leaky_relu(tf.concat(outputs, axis=-1), 0.2)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "deep_units": self.deep_units,
            "powers": self.powers,
            "joint": self.joint,
        }


def _powers(numbers: tf.Tensor) -> tf.Tensor:
    size = tf.abs(numbers)
    # The root's slope at 0 is infinite: NaN once a later layer multiplies it by 0, and a mean that
    # is standardised to 0 up to rounding would be read as another number.
    root = size / tf.sqrt(tf.maximum(size, _LINEAR))
    return tf.concat([numbers, tf.square(numbers), root], axis=-1)
