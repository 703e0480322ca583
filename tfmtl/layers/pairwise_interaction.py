"""Interactions between every user state and every item state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.mlp import MLP

Kappa = Literal["product", "concat", "add", "mlp"]


@keras.utils.register_keras_serializable(package="tfmtl")
class PairwiseInteraction(keras.layers.Layer):
    """Z = { kappa(h_u^a, h_i^b) } for all channels a of the user and b of the item.

    Shapes: B batch, P user states, Q item states, d state width.

    Args:
        kappa: `product` (element-wise), `concat`, `add`, or `mlp` (`[a || b]` through one
            LeakyReLU layer of width d, shared by the pairs).
        normalize: Scales every state to a root mean square of 1 first. States that left a depth
            gate are small, and so are products of them: the experts beside Z drown them while
            the weights behind are still small.
        l2: Penalty on the squared kernel of `mlp`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: user states, a sequence of P tensors `[B, d]`, and item states, Q of them.
    Output shape: `float [B, P * Q, d]` (`2 d` for `concat`), user channel varying slowest.

    References:
        MoGENet equation 3 and Table 4.

    Deviations:
        `normalize` is an addition.

    Example:
        >>> import tensorflow as tf
        >>> user, item = tf.constant([[1.0, 2.0]]), tf.constant([[3.0, 5.0]])
        >>> PairwiseInteraction()([user], [item, -item]).numpy().tolist()
        [[[3.0, 10.0], [-3.0, -10.0]]]
    """

    def __init__(
        self,
        *,
        kappa: Kappa = "product",
        normalize: bool = False,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if kappa not in ("product", "concat", "add", "mlp"):
            raise ValueError(f"expected kappa product, concat, add or mlp; received {kappa!r}")
        self.kappa = kappa
        self.normalize = bool(normalize)
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates the shared layer of `mlp` for user states of `input_shape`."""
        if self.kappa == "mlp":
            # The last leaf is a shape, or its last number where shapes have become lists.
            last = tf.nest.flatten(input_shape)[-1]
            dim = last if isinstance(last, int) else int(last[-1])
            self._mlp = MLP([dim], l2=self.l2, dtype=self.dtype_policy, name="mlp")
            with tf.name_scope(self._mlp.name):
                self._mlp.build([None, 2 * dim])
        super().build(input_shape)

    def call(self, user_states: Sequence[tf.Tensor], item_states: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the P * Q interactions `[B, P * Q, d or 2 d]`."""
        pairs = len(user_states) * len(item_states)
        user = tf.repeat(tf.stack(list(user_states), axis=1), len(item_states), axis=1)
        item = tf.tile(tf.stack(list(item_states), axis=1), [1, len(user_states), 1])
        # Keras casts the first argument alone to the layer's dtype.
        item = tf.cast(item, user.dtype)
        if self.normalize:
            user, item = _unit_scale(user), _unit_scale(item)
        if self.kappa == "product":
            outputs = user * item
        elif self.kappa == "add":
            outputs = user + item
        else:
            outputs = tf.concat([user, item], axis=-1)
            if self.kappa == "mlp":
                outputs = self._mlp(outputs)
        return tf.ensure_shape(outputs, [None, pairs, None])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "kappa": self.kappa,
            "normalize": self.normalize,
            "l2": self.l2,
        }


def _unit_scale(states: tf.Tensor) -> tf.Tensor:
    """States `[..., d]` of root mean square 1; a state of zeros stays so."""
    # Squares of small half-precision numbers would vanish.
    squares = tf.reduce_mean(tf.square(tf.cast(states, tf.float32)), axis=-1, keepdims=True)
    return states * tf.cast(tf.math.rsqrt(squares + 1e-6), states.dtype)
