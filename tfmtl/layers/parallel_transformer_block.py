"""Attention and feed-forward network side by side, on one projection."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.dropout import Dropout
from tfmtl.layers.masked_softmax import masked_softmax
from tfmtl.layers.rotary_positions import rotary_positions


@keras.utils.register_keras_serializable(package="tfmtl")
class ParallelTransformerBlock(keras.layers.Layer):
    """Multi-query attention and a SwiGLU network that read one normalised state.

        [q_1 ‖ ... ‖ q_H | k | v | f_1 | f_2] = LN(x) W_fused
        a_h = softmax( R(q_h) R(k)^T / sqrt(d_h) + mask ) v
        x <- x + Dropout( [a_1 ‖ ... ‖ a_H] W_o + (SiLU(f_2) ⊙ f_1) W_ff )

    All heads share one key and one value, R rotates by position (`rotary_positions`), LN has a
    scale and no bias, and no projection has a bias. Both branches share the norm and one matrix
    product, so that the block is two products deep in place of four.

    Shapes: B rows, L positions, D width of a state, H heads of width d_h, F = `ff_multiple` D.
    W_fused is D x (H d_h + 2 d_h + 2 F).

    Args:
        num_heads: Number of heads H that read the shared key and value.
        head_dim: Width d_h, even; None for D / H.
        ff_multiple: Hidden width of the feed-forward network, in multiples of D.
        causal: Whether a position sees itself and earlier ones only.
        dropout: Share of the block's outputs dropped in training, ahead of the residual.
        residual: Whether the input is added to the block's output.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: States `float [B, L, D]`.
        mask: `bool [B, L]`, the positions that there are; None for all. Others are seen by nobody,
            and what comes out in their own place has no meaning. A row without any has attention
            0 and passes through the feed-forward network alone.

    Output shape: `float [B, L, D]`.

    Raises:
        ValueError: If `num_heads`, `head_dim` or `ff_multiple` is not positive, `head_dim` is odd,
            `num_heads` does not divide D where it has to, or `dropout` is out of range.

    References:
        GRec (CIKM 2023), parallel transformer of the released code; Chowdhery et al., PaLM: Scaling
        Language Modeling with Pathways (JMLR 2023), section 2; Shazeer, GLU Variants Improve
        Transformer, equation 6.

    Deviations:
        Scores and softmax are in float32 under any policy. Kernels are drawn by their inputs' width
        alone: the joint width of the fused parts says nothing about any one of them.

    Example:
        >>> import tensorflow as tf
        >>> block = ParallelTransformerBlock(4)
        >>> states, mask = tf.random.normal([2, 3, 16]), tf.constant([[True] * 3, [False] * 3])
        >>> block(states, mask).shape
        TensorShape([2, 3, 16])
    """

    def __init__(
        self,
        num_heads: int,
        *,
        head_dim: int | None = None,
        ff_multiple: int = 4,
        causal: bool = False,
        dropout: float = 0.0,
        residual: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        # Keras hands the mask on to the next block and the pooling.
        self.supports_masking = True
        self.num_heads = int(num_heads)
        self.head_dim = None if head_dim is None else int(head_dim)
        self.ff_multiple = int(ff_multiple)
        self.causal = bool(causal)
        self.dropout = float(dropout)
        self.residual = bool(residual)
        if self.num_heads < 1 or self.ff_multiple < 1:
            raise ValueError(
                "expected at least one head and a positive ff_multiple; received "
                f"num_heads={num_heads}, ff_multiple={ff_multiple}: take 1 and 4 to begin with"
            )
        if self.head_dim is not None:
            self._check_head_dim(self.head_dim)

    def _check_head_dim(self, head_dim: int) -> None:
        if head_dim < 2 or head_dim % 2:
            raise ValueError(
                f"expected heads of a positive, even width, as rotations take pairs; received "
                f"{head_dim}: set head_dim, which need not be D / num_heads"
            )

    def build(self, input_shape: Any) -> None:
        """Creates the norm and the three projections for states of `input_shape` `[B, L, D]`."""
        width = int(tf.TensorShape(input_shape)[-1])
        if self.head_dim is None and width % self.num_heads:
            raise ValueError(
                f"expected a width that num_heads={self.num_heads} divides; received states of "
                f"width {width}: set head_dim, or take another number of heads"
            )
        head, hidden = self.head_dim or width // self.num_heads, self.ff_multiple * width
        self._check_head_dim(head)
        self._sizes = [self.num_heads * head, head, head, hidden, hidden]

        def dense(units: int, name: str) -> keras.layers.Layer:
            return keras.layers.Dense(
                units,
                use_bias=False,
                kernel_initializer="lecun_normal",
                dtype=self.dtype_policy,
                name=name,
            )

        self._norm = keras.layers.LayerNormalization(
            epsilon=1e-5, center=False, dtype=self.dtype_policy, name="norm"
        )
        self._fused = dense(sum(self._sizes), "fused")
        self._attention_out = dense(width, "attention_out")
        self._forward_out = dense(width, "forward_out")
        self._drop = Dropout(self.dropout, dtype=self.dtype_policy)
        for layer, shape in (
            (self._norm, input_shape),
            (self._fused, [None, None, width]),
            (self._attention_out, [None, None, self._sizes[0]]),
            (self._forward_out, [None, None, hidden]),
        ):
            with tf.name_scope(layer.name):
                layer.build(shape)
        super().build(input_shape)

    def call(
        self, inputs: tf.Tensor, mask: tf.Tensor | None = None, training: bool | None = None
    ) -> tf.Tensor:
        """Maps states `[B, L, D]` to `[B, L, D]`."""
        fused = self._fused(self._norm(inputs))
        queries, key, value, linear, gate = tf.split(fused, self._sizes, axis=-1)
        attended = self._attend(queries, key, value, mask)
        outputs = self._attention_out(attended) + self._forward_out(tf.nn.silu(gate) * linear)
        outputs = self._drop(outputs, training=training)
        return inputs + outputs if self.residual else outputs

    def _attend(
        self, queries: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor | None
    ) -> tf.Tensor:
        length = tf.shape(key)[1] if key.shape[1] is None else key.shape[1]
        heads = tf.reshape(queries, [-1, length, self.num_heads, key.shape[-1]])
        # Products of half-precision numbers overflow when summed over the width.
        heads = rotary_positions(tf.cast(tf.transpose(heads, [0, 2, 1, 3]), tf.float32))
        key = rotary_positions(tf.cast(key, tf.float32))
        scores = tf.einsum("bhqd,bkd->bhqk", heads, key) * key.shape[-1] ** -0.5

        seen = tf.ones([1, 1, 1, length], tf.bool)
        if mask is not None:
            seen = mask[:, tf.newaxis, tf.newaxis]
        if self.causal:
            steps = tf.range(length)
            seen = tf.logical_and(seen, steps <= steps[:, tf.newaxis])
        weights = tf.cast(masked_softmax(scores, seen), value.dtype)
        attended = tf.einsum("bhqk,bkd->bqhd", weights, value)
        return tf.reshape(attended, [-1, length, self._sizes[0]])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "ff_multiple": self.ff_multiple,
            "causal": self.causal,
            "dropout": self.dropout,
            "residual": self.residual,
        }
