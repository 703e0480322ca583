"""What one task sees in the macro neighbourhoods of a user and an item."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.macro_aggregator import MacroAggregator, MacroAttention
from tfmtl.layers.macro_weight import MacroWeights


@keras.utils.register_keras_serializable(package="tfmtl")
class MacroGraphExpert(keras.layers.Layer):
    """Embeddings of user and item beside their macro neighbourhoods of one and two hops.

        u1 = agg_I(M_I, e_i, alpha_U1)    u2 = agg_U(M_U, e_u, alpha_U2)
        i1 = agg_U(M_U, e_u, alpha_I1)    i2 = agg_I(M_I, e_i, alpha_I2)
        m  = [ e_u || u1 || u2 || e_i || i1 || i2 ]

    Neighbouring users meet the batch's user, neighbouring items its item. Each agg is a
    `MacroAggregator` of width 2 d: `user_aggregator` agg_U and `item_aggregator` agg_I.

    Shapes: B rows, d embedding width, G_U and G_I macro user and item nodes.

    Args:
        attention: See `MacroAggregator`.
        mask_padding: Whether macro node 0 is left out.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: users e_u and items e_i `float [B, d]`, macro users M_U `float [G_U + 1, d]`,
    macro items M_I `float [G_I + 1, d]`, `MacroWeights`. Output shape: `float [B, 10 d]`.

    References:
        MGOE Figure 2, macro graph expert; MacGNN, released code, for the pairs of neighbours and
        targets.

    Deviations:
        See `MacroAggregator`.

    Example:
        >>> import tensorflow as tf
        >>> weights = MacroWeights(*(tf.ones([3, nodes]) / nodes for nodes in (6, 5, 5, 6)))
        >>> row = tf.ones([3, 4])
        >>> MacroGraphExpert()(row, row, tf.ones([5, 4]), tf.ones([6, 4]), weights).shape
        TensorShape([3, 40])
    """

    def __init__(
        self,
        *,
        attention: MacroAttention = "neighbor",
        mask_padding: bool = True,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.attention = attention
        self.mask_padding = bool(mask_padding)
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates both aggregators for users of `input_shape` `[B, d]`."""
        width = int(tf.TensorShape(input_shape)[-1])

        def aggregator(name: str) -> MacroAggregator:
            layer = MacroAggregator(
                2 * width,
                attention=self.attention,
                mask_padding=self.mask_padding,
                l2=self.l2,
                dtype=self.dtype_policy,
                name=name,
            )
            with tf.name_scope(layer.name):
                layer.build(tf.TensorShape([None, width]))
            return layer

        self.user_aggregator = aggregator("user_aggregator")
        self.item_aggregator = aggregator("item_aggregator")
        super().build(input_shape)

    def call(
        self,
        user: tf.Tensor,
        item: tf.Tensor,
        user_nodes: tf.Tensor,
        item_nodes: tf.Tensor,
        weights: MacroWeights,
    ) -> tf.Tensor:
        """Maps users and items `[B, d]` to m `[B, 10 d]`."""
        # Keras casts the first argument alone to the layer's dtype.
        item = tf.cast(item, user.dtype)
        return tf.concat(
            [
                user,
                self.item_aggregator(item_nodes, item, weights.user_items),
                self.user_aggregator(user_nodes, user, weights.user_users),
                item,
                self.user_aggregator(user_nodes, user, weights.item_users),
                self.item_aggregator(item_nodes, item, weights.item_items),
            ],
            axis=-1,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "attention": self.attention,
            "mask_padding": self.mask_padding,
            "l2": self.l2,
        }
