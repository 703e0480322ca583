"""One vector from all macro neighbours of a row, seen from its target."""

from __future__ import annotations

from typing import Any, Literal, get_args

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.masked_softmax import masked_softmax
from tfmtl.layers.target_scores import target_scores

MacroAttention = Literal["neighbor", "released"]


@keras.utils.register_keras_serializable(package="tfmtl")
class MacroAggregator(keras.layers.Layer):
    """Sum of neighbours by their macro weight alpha and by their attention beta to the target q.

        out = sum_n alpha_n (C beta_n) (x_n W_V),   beta = softmax_n( (x_n W_Q).(q W_K) / sqrt(H) )

    C is the number of neighbours that take part, so that C beta_n is 1 on average: attention that
    tells nothing leaves sum_n alpha_n x_n W_V, which is what `attention="released"` computes.

    Neighbours that all rows share, such as macro nodes, come once, `[N, d]`. Projections act on
    targets and sums alone, so a batch costs B N d, whatever the number of micro neighbours.

    Shapes: B rows, N neighbours, d embedding width, H `units`.

    Args:
        units: Width H of the output.
        attention: `neighbor`, or `released` for beta without effect; W_Q and W_K then do not
            exist.
        mask_padding: Whether neighbour 0 of shared neighbours, the padding node, is left out.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: neighbours `float [N, d]` or `float [B, N, d]`, targets `float [B, d]`,
    weights `float [B, N]`, and optionally a mask `bool [B, N]` or `bool [N]` of the neighbours
    that take part. Output shape: `float [B, H]`; rows without a neighbour are 0.

    Raises:
        ValueError: If `attention` is unknown or `units` is not positive.

    References:
        MacGNN, neighbour aggregation of the released code; MGOE Figure 2, aggregated macro
        embedding.

    Deviations:
        MacGNN's released code takes the softmax over an axis of one element, so that every beta is
        1 and W_Q and W_K never learn. `neighbor` takes it over the neighbours; the factor C is a
        form of our own. Softmax in float32 under any policy.

    Example:
        >>> import tensorflow as tf
        >>> nodes, targets = tf.ones([5, 4]), tf.ones([3, 4])
        >>> MacroAggregator(8)(nodes, targets, tf.fill([3, 5], 0.25)).shape
        TensorShape([3, 8])
    """

    def __init__(
        self,
        units: int,
        *,
        attention: MacroAttention = "neighbor",
        mask_padding: bool = True,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = int(units)
        if self.units < 1:
            raise ValueError(f"expected positive units; received {units}")
        if attention not in get_args(MacroAttention):
            raise ValueError(f"expected attention 'neighbor' or 'released'; received {attention!r}")
        self.attention = attention
        self.mask_padding = bool(mask_padding)
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates W_V and, for `neighbor`, W_Q and W_K for neighbours of `input_shape`."""
        width = int(tf.TensorShape(input_shape)[-1])

        def matrix(name: str) -> tf.Variable:
            return self.add_weight(
                name=name,
                shape=(width, self.units),
                initializer="glorot_uniform",
                regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            )

        if self.attention == "neighbor":
            self._query, self._key = matrix("query"), matrix("key")
        self._value = matrix("value")
        super().build(input_shape)

    def call(
        self,
        nodes: tf.Tensor,
        target: tf.Tensor,
        weights: tf.Tensor,
        mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Maps neighbours `[N, d]` or `[B, N, d]` to `[B, H]`."""
        shared = nodes.shape.rank == 2
        number = tf.shape(nodes)[-2]
        if mask is None:
            mask = tf.fill([number], True)
        if shared and self.mask_padding:
            mask = tf.logical_and(mask, tf.range(number) > 0)
        coefficients = tf.where(mask, tf.cast(weights, tf.float32), 0.0)
        if self.attention == "neighbor":
            scores = target_scores(nodes, target, self._query, self._key)
            count = tf.reduce_sum(tf.cast(mask, tf.float32), axis=-1, keepdims=True)
            coefficients *= count * masked_softmax(scores, mask)
        equation = "bn,nd->bd" if shared else "bn,bnd->bd"
        pooled = tf.einsum(equation, tf.cast(coefficients, nodes.dtype), nodes)
        return tf.matmul(pooled, tf.cast(self._value, pooled.dtype))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "attention": self.attention,
            "mask_padding": self.mask_padding,
            "l2": self.l2,
        }
