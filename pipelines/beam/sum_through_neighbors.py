"""Products with an adjacency that no single machine holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue
from scipy import sparse

from tfmtl.pipelines.beam.adjacency_block import AdjacencyBlock

_NUMBERS_AT_ONCE = 1 << 22
Sums = tuple[np.ndarray, np.ndarray]


class _PassOn(beam.DoFn):
    """What the nodes of a bundle add to each of their neighbours, before the shuffle."""

    def __init__(
        self,
        rows_of: Callable[[AdjacencyBlock], np.ndarray],
        scores: np.ndarray,
        block_rows: int,
    ) -> None:
        self._rows_of = rows_of
        self._scores = scores
        self._block_rows = block_rows

    def start_bundle(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._blocks: list[AdjacencyBlock] = []
        self._rows: list[np.ndarray] = []
        self._size = 0

    def process(self, block: AdjacencyBlock) -> Iterator[tuple[int, Sums]]:
        rows = self._rows_of(block)
        self._blocks.append(block)
        self._rows.append(rows)
        self._size += rows.size + block.indices.size
        if self._size >= _NUMBERS_AT_ONCE:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._blocks:
            for element in self._flush():
                yield GlobalWindows.windowed_value(element)

    def _flush(self) -> Iterator[tuple[int, Sums]]:
        rows = np.concatenate(self._rows)
        degrees = np.concatenate([np.diff(block.indptr) for block in self._blocks])
        neighbors, places = np.unique(
            np.concatenate([block.indices for block in self._blocks]), return_inverse=True
        )
        scores = self._scores[np.concatenate([block.values for block in self._blocks])]
        self._clear()
        edges = sparse.csr_array(
            (scores, places, np.append(0, np.cumsum(degrees))), shape=(len(rows), neighbors.size)
        ).T.tocsr()
        # A hub has so many neighbours that its row passed on to all of them would not fit.
        step = max(1, _NUMBERS_AT_ONCE // rows.shape[1])
        for first in range(0, neighbors.size, step):
            nodes = neighbors[first : first + step]
            sums = edges[first : first + step] @ rows
            numbers = nodes // self._block_rows
            starts = np.flatnonzero(np.diff(numbers, prepend=-1))
            for start, end in zip(starts, np.append(starts[1:], nodes.size), strict=True):
                yield int(numbers[start]), (nodes[start:end], sums[start:end])


class _AddUp(beam.DoFn):
    def __init__(self, block_rows: int) -> None:
        self._block_rows = block_rows

    def process(self, element: tuple[int, Iterable[Sums]]) -> Iterator[tuple[int, Sums]]:
        number, parts = element
        first = number * self._block_rows
        reached = np.zeros(self._block_rows, np.bool_)
        totals = np.zeros((self._block_rows, 0))
        for nodes, sums in parts:
            if not totals.size:
                totals = np.zeros((self._block_rows, sums.shape[1]))
            totals[nodes - first] += sums
            reached[nodes - first] = True
        nodes = np.flatnonzero(reached)
        yield number, ((first + nodes).astype(np.int32), totals[nodes].astype(np.float32))


class SumThroughNeighbors(beam.PTransform):
    """Adds up, for each node, rows of its neighbours times the scores of the edges between.

        y_v = sum_{m in N(v)} s_vm x_m

    The edges come grouped by the neighbours m, so that a block of them has all that it passes on,
    and no edge is shuffled: only sums are, of the nodes of a bundle before the shuffle and of all
    after it. Work is O(edges k), the shuffle O(nodes k) per bundle.

    Args:
        rows_of: Makes x, `float32 [R, k]`, of a block's R rows; pickled and sent to workers.
        scores: Score per combination of behaviours, `float32`.
        block_rows: Receivers v per key of the shuffle.

    Input: `AdjacencyBlock`s with behaviours, whose receivers are the m and whose sources the v.
    Output: `(number, (v int32 [n], y float32 [n, k]))`, one per range of `block_rows` nodes v with
    any edge; range 0 begins with node 0.

    Raises:
        ValueError: If `block_rows` is not positive.

    Example:
        >>> pairs = np.array([11, 12, 22])
        >>> block = AdjacencyBlock.from_pairs(pairs, np.ones(3, np.int32), 10)
        >>> ones = SumThroughNeighbors(lambda block: block.rows[:, np.newaxis].astype(np.float32),
        ...                            np.array([0, 2], np.float32), block_rows=64)
        >>> with beam.Pipeline() as pipeline:
        ...     sums = pipeline | beam.Create([block]) | ones
        ...     parts = sums | beam.Values()
        ...     _ = parts | beam.MapTuple(lambda nodes, y: print(nodes.tolist(), y.tolist()))
        [1, 2] [[2.0], [6.0]]
    """

    def __init__(
        self,
        rows_of: Callable[[AdjacencyBlock], np.ndarray],
        scores: np.ndarray,
        *,
        block_rows: int = 1024,
    ) -> None:
        super().__init__()
        if block_rows < 1:
            raise ValueError(f"expected block_rows of at least 1; received {block_rows}")
        self._rows_of = rows_of
        self._scores = scores
        self._block_rows = block_rows

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """Applies the transform.

        Args:
            blocks: Edges grouped by the neighbours.
        """
        return (
            blocks
            | "PassOn" >> beam.ParDo(_PassOn(self._rows_of, self._scores, self._block_rows))
            | "ShuffleSums" >> beam.GroupByKey()
            | "AddUp" >> beam.ParDo(_AddUp(self._block_rows))
        )
