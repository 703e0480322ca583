"""Reduces values by pair of ids, in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from tfmtl.pipelines.beam.adjacency_block import AdjacencyBlock

Pairs = tuple[np.ndarray, np.ndarray]
_BUFFERED_PAIRS = 1 << 22


def reduced(parts: list[Pairs], reduce: np.ufunc) -> Pairs:
    """Distinct pairs, ascending, with the reduced values of equal ones.

    Args:
        parts: Pairs `int64 [n]` and their values `[n]`, at least one part.
        reduce: Associative and commutative function of two values.

    Example:
        >>> part = np.array([7, 3, 7]), np.array([1, 1, 2])
        >>> [array.tolist() for array in reduced([part, part], np.add)]
        [[3, 7], [2, 6]]
    """
    pairs = np.concatenate([pairs for pairs, _ in parts])
    values = np.concatenate([values for _, values in parts])
    order = np.argsort(pairs, kind="stable")
    pairs, values = pairs[order], values[order]
    starts = np.flatnonzero(np.diff(pairs, prepend=-1))
    if not starts.size:
        return pairs, values
    return pairs[starts], reduce.reduceat(values, starts, dtype=values.dtype)


class _Buffer:
    """Reduces what is added whenever it has doubled, so that memory follows distinct pairs."""

    def __init__(self, reduce: np.ufunc) -> None:
        self._reduce = reduce
        self._clear()

    def _clear(self) -> None:
        self._parts: list[Pairs] = []
        self._size = 0
        self._limit = _BUFFERED_PAIRS
        self.distinct = 0

    def add(self, part: Pairs) -> None:
        self._parts.append(part)
        self._size += part[0].size
        if self._size >= self._limit:
            self._parts = [reduced(self._parts, self._reduce)]
            self._size = self.distinct = self._parts[0][0].size
            self._limit = max(_BUFFERED_PAIRS, 2 * self._size)

    def take(self) -> Pairs | None:
        """Everything, reduced; `None` when no pair was added."""
        parts, size = self._parts, self._size
        self._clear()
        return reduced(parts, self._reduce) if size else None


class _CombineBeforeShuffle(beam.DoFn):
    def __init__(self, num_columns: int, block_rows: int, reduce: np.ufunc) -> None:
        self._num_columns = num_columns
        self._block_rows = block_rows
        self._reduce = reduce

    def start_bundle(self) -> None:
        self._buffer = _Buffer(self._reduce)

    def process(
        self, element: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> Iterator[tuple[int, Pairs]]:
        rows, columns, values = element
        pairs = rows.astype(np.int64) * self._num_columns + columns
        self._buffer.add((pairs, values))
        # Below this, the pairs repeat so much that it pays to go on collecting.
        if self._buffer.distinct > _BUFFERED_PAIRS // 2:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for element in self._flush():
            yield GlobalWindows.windowed_value(element)

    def _flush(self) -> Iterator[tuple[int, Pairs]]:
        taken = self._buffer.take()
        if taken is None:
            return
        pairs, values = taken
        blocks = pairs // (self._num_columns * self._block_rows)
        starts = np.flatnonzero(np.diff(blocks, prepend=-1))
        for start, end in zip(starts, np.append(starts[1:], pairs.size), strict=True):
            yield int(blocks[start]), (pairs[start:end], values[start:end])


class _CombineBlock(beam.DoFn):
    def __init__(self, num_columns: int, reduce: np.ufunc) -> None:
        self._num_columns = num_columns
        self._reduce = reduce

    def process(self, element: tuple[int, Iterable[Pairs]]) -> Iterator[AdjacencyBlock]:
        buffer = _Buffer(self._reduce)
        for part in element[1]:
            buffer.add(part)
        taken = buffer.take()
        assert taken is not None
        yield AdjacencyBlock.from_pairs(*taken, self._num_columns)


class CombinePairs(beam.PTransform):
    """Reduces the values of equal pairs, before and after one shuffle by block of rows.

    Pairs travel as arrays, a block of rows under one key: the cost per pair is that of a sort in
    NumPy, not that of a Python object. The combining before the shuffle is done here, not by
    `CombinePerKey`: Beam bounds the table of its lifted combiners by the number of keys, not by
    their size, and a key here may hold millions of pairs.

    Args:
        num_columns: Number of possible columns.
        block_rows: Rows per key of the shuffle. A worker holds the distinct pairs of one block.
        reduce: Associative and commutative NumPy function of two values.

    Input: `(rows int [n], columns int [n], values [n])`.
    Output: one `AdjacencyBlock` per block of rows that has pairs.

    Example:
        >>> ids = np.array([1, 2, 1]), np.array([0, 4, 0]), np.ones(3, np.int32)
        >>> with beam.Pipeline() as pipeline:
        ...     blocks = pipeline | beam.Create([ids]) | CombinePairs(5, 64, np.add)
        ...     _ = blocks | beam.Map(lambda part: print(part.rows, part.indices, part.values))
        [1 2] [0 4] [2 1]
    """

    def __init__(self, num_columns: int, block_rows: int, reduce: np.ufunc) -> None:
        super().__init__()
        self._num_columns = num_columns
        self._block_rows = block_rows
        self._reduce = reduce

    def expand(self, pairs: beam.PCollection) -> beam.PCollection:
        """Applies the transform.

        Args:
            pairs: Arrays of pairs.
        """
        return (
            pairs
            | "CombineBeforeShuffle"
            >> beam.ParDo(_CombineBeforeShuffle(self._num_columns, self._block_rows, self._reduce))
            | "ShuffleBlocks" >> beam.GroupByKey()
            | "CombineBlock" >> beam.ParDo(_CombineBlock(self._num_columns, self._reduce))
        )
