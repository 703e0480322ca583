"""A small encoder of texts, trained with the model."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.parallel_transformer_block import ParallelTransformerBlock
from tfmtl.layers.rms_norm import RMSNorm
from tfmtl.layers.sequence_pooling import SequencePooling


@keras.utils.register_keras_serializable(package="tfmtl")
class TextEncoder(keras.layers.Layer):
    """Embeds the token ids of a text, mixes them in transformer blocks, and pools them.

        X = Emb(tokens),    X <- Block_n(X) for every block,    y = Pool(RMSNorm(X))

    Id 0 is padding: no word sees it, and a text of padding alone gets the one learned vector of
    `SequencePooling`. Ids outside the table are taken for padding.

    Shapes: B rows, L tokens per text, D `units`.

    Args:
        vocabulary_size: Rows of the table of tokens, padding included.
        units: Width D of tokens and output.
        num_blocks: Number of blocks; 0 pools the embeddings, without the words' order.
        num_heads: Heads of each `ParallelTransformerBlock`.
        dropout: Share of each block's outputs dropped in training.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `int [B, L]`. Output shape: `float [B, D]`.

    Raises:
        ValueError: If `vocabulary_size` is below 2, `units` not positive, `num_blocks` negative,
            or an argument is one that `ParallelTransformerBlock` refuses.

    References:
        GRec (CIKM 2023), text input.

    Deviations:
        A form of our own that needs no other model: the released code embeds texts with MiniLM.

    Example:
        >>> import tensorflow as tf
        >>> encoder = TextEncoder(1000, 16, num_heads=2)
        >>> encoder(tf.constant([[7, 12, 0], [0, 0, 0]])).shape
        TensorShape([2, 16])
    """

    def __init__(
        self,
        vocabulary_size: int,
        units: int,
        *,
        num_blocks: int = 1,
        num_heads: int = 1,
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = int(vocabulary_size)
        self.units = int(units)
        self.num_blocks = int(num_blocks)
        self.num_heads = int(num_heads)
        self.dropout = float(dropout)
        if self.vocabulary_size < 2 or self.units < 1 or self.num_blocks < 0:
            raise ValueError(
                "expected a vocabulary of padding and at least one token, positive units and no "
                f"negative num_blocks; received vocabulary_size={vocabulary_size}, units={units}, "
                f"num_blocks={num_blocks}: count the padding in vocabulary_size"
            )

    def build(self, input_shape: Any) -> None:
        """Creates the table, the blocks, the norm and the pooling."""
        self._table = self.add_weight(
            name="table", shape=(self.vocabulary_size, self.units), initializer="uniform"
        )
        self._blocks = [
            ParallelTransformerBlock(
                self.num_heads,
                dropout=self.dropout,
                dtype=self.dtype_policy,
                name=f"block_{number}",
            )
            for number in range(self.num_blocks)
        ]
        self._norm = RMSNorm(dtype=self.dtype_policy, name="norm")
        self._pool = SequencePooling(dtype=self.dtype_policy, name="pool")
        sublayers: list[keras.layers.Layer] = [*self._blocks, self._norm, self._pool]
        for layer in sublayers:
            with tf.name_scope(layer.name):
                layer.build([None, None, self.units])
        super().build(input_shape)

    def call(self, tokens: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps tokens `int [B, L]` to texts `[B, D]`."""
        mask = tf.logical_and(tokens > 0, tokens < self.vocabulary_size)
        # A gather out of range stops on a CPU and gives zeros on a GPU.
        rows = tf.gather(self._table, tf.where(mask, tokens, tf.zeros_like(tokens)))
        states = tf.cast(rows, self.compute_dtype)
        for block in self._blocks:
            states = block(states, mask, training=training)
        return self._pool(self._norm(states), mask)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "units": self.units,
            "num_blocks": self.num_blocks,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
        }
