"""Which weights parameter servers share."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

# A look-up in parts costs a call per server.
_BYTES_OF_PART = 2**18
# Of a dense layer's weights every step reads all; they have not as many rows.
_FEWEST_ROWS = 2**12


class TablePartitioner(tf.distribute.experimental.partitioners.Partitioner):
    """Cuts large tables by rows into a part for each server and leaves all other weights whole.

    A table is a `float [rows, dim]` of at least 4096 rows and more than 256 KiB, for each of which
    there is at most one part.

    Args:
        servers: Number of parameter servers.

    Attributes:
        cut: Shapes of the tables that have been cut.

    Example:
        >>> partitioner = TablePartitioner(2)
        >>> partitioner(tf.TensorShape([10_000, 16]), tf.float32)
        [2, 1]
        >>> partitioner(tf.TensorShape([1000, 160]), tf.float32)
        [1, 1]
    """

    def __init__(self, servers: int):
        self._by_size = tf.distribute.experimental.partitioners.MinSizePartitioner(
            _BYTES_OF_PART, max_shards=servers
        )
        self.cut: list[tf.TensorShape] = []

    def __call__(self, shape: tf.TensorShape, dtype: tf.DType, axis: int = 0) -> Sequence[int]:
        """Numbers of parts along each axis."""
        if shape.rank != 2 or shape[0] < _FEWEST_ROWS or not dtype.is_floating:
            return [1] * (shape.rank or 0)
        parts = self._by_size(shape, dtype, axis)
        if max(parts) > 1:
            self.cut.append(shape)
        return parts
