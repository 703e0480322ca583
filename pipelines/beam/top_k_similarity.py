"""The graph of similar users, or of similar items, of a graph that no single machine pairs."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import numpy as np

from tfmtl.graph import SimilarityConfig
from tfmtl.pipelines.beam.adjacency_block import AdjacencyBlock
from tfmtl.pipelines.beam.combine_pairs import CombinePairs

_PAIRS_AT_ONCE = 1 << 20
_SIZES = "sizes"
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def _by_pivot(block: AdjacencyBlock, min_degree: int) -> Arrays:
    """Edges turned round, each with whether its receiver takes part."""
    degrees = np.diff(block.indptr)
    takes_part = np.repeat((degrees > min_degree).astype(np.uint8), degrees)
    return block.indices, block.receivers, takes_part


class _PairThroughPivots(beam.DoFn):
    """All ordered pairs of receivers that share a pivot, and each receiver's own size."""

    def __init__(self, max_pivot_degree: int) -> None:
        self._max_pivot_degree = max_pivot_degree

    def process(self, block: AdjacencyBlock) -> Iterator[Arrays | beam.pvalue.TaggedOutput]:
        for start, end in zip(block.indptr[:-1], block.indptr[1:], strict=True):
            if end - start > self._max_pivot_degree:
                continue
            members = block.indices[start:end][block.values[start:end] == 1]
            if not members.size:
                continue
            ones = np.ones(members.size, np.int32)
            yield beam.pvalue.TaggedOutput(_SIZES, (members, np.zeros_like(members), ones))
            step = max(1, _PAIRS_AT_ONCE // members.size)
            for first in range(0, members.size, step):
                rows = np.repeat(members[first : first + step], members.size)
                columns = np.tile(members, rows.size // members.size)
                apart = rows != columns
                yield rows[apart], columns[apart], np.ones(np.count_nonzero(apart), np.int32)


class _KeepBest(beam.DoFn):
    def __init__(self, num_rows: int, config: SimilarityConfig) -> None:
        self._num_rows = num_rows
        self._config = config

    def start_bundle(self) -> None:
        self._sizes: np.ndarray | None = None

    def process(
        self, counted: AdjacencyBlock, sizes: list[AdjacencyBlock]
    ) -> Iterator[AdjacencyBlock]:
        if self._sizes is None:
            self._sizes = np.zeros(self._num_rows, np.int64)
            for part in sizes:
                self._sizes[part.rows] = part.values
        kept = counted.values > self._config.min_common
        common = counted.values[kept].astype(np.int64)
        if not common.size:
            return
        rows = counted.receivers[kept].astype(np.int64)
        columns = counted.indices[kept].astype(np.int64)
        scores = common.astype(np.float64)
        if self._config.measure == "cosine":
            scores /= np.sqrt((self._sizes[rows] * self._sizes[columns]).astype(np.float64))
        elif self._config.measure == "jaccard":
            scores /= (self._sizes[rows] + self._sizes[columns] - common).astype(np.float64)
        order = np.lexsort((columns, -scores, rows))
        _, starts, degrees = np.unique(rows, return_index=True, return_counts=True)
        rank = np.arange(rows.size) - np.repeat(starts, degrees)
        best = order[rank < self._config.top_k]
        yield AdjacencyBlock.from_pairs(
            rows[best] * self._num_rows + columns[best],
            scores[best].astype(np.float32),
            self._num_rows,
        )


class TopKSimilarity(beam.PTransform):
    """Links each receiver to those it shares most neighbours with.

    The result is that of `tfmtl.graph.build_similarity_graph`: measures, thresholds, skipped hubs
    and ties are documented there. Edges are regrouped by pivot, every pivot of a degree up to
    `max_pivot_degree` gives the pairs of its receivers, pairs are counted before and after a
    shuffle by block of receivers, and each block keeps its rows' best.

    The work is the sum of squared degrees of the pivots that are not skipped. Every worker holds
    one `int64` per receiver, and the distinct pairs of one block of receivers.

    Args:
        num_rows: Number of receivers: those of the encoder, the unknown one included.
        config: Measure and thresholds.
        block_rows: Receivers, and pivots, per key of a shuffle.

    Input: `AdjacencyBlock`s of `item_user` for similar users, of `user_item` for similar items;
    every receiver in one block only.
    Output: `AdjacencyBlock`s with weights `float32`.

    Raises:
        ValueError: If `block_rows` or `num_rows` is not positive.

    Example:
        >>> pairs = np.array([11, 12, 21, 22, 31])
        >>> block = AdjacencyBlock.from_pairs(pairs, np.ones(5, np.int32), 10)
        >>> config = SimilarityConfig(min_degree=0, min_common=1)
        >>> with beam.Pipeline() as pipeline:
        ...     similar = pipeline | beam.Create([block]) | TopKSimilarity(4, config)
        ...     _ = similar | beam.Map(lambda part: print(part.rows, part.indices, part.values))
        [1 2] [2 1] [2. 2.]
    """

    def __init__(self, num_rows: int, config: SimilarityConfig, *, block_rows: int = 256) -> None:
        super().__init__()
        for name, value in (("num_rows", num_rows), ("block_rows", block_rows)):
            if value < 1:
                raise ValueError(f"expected {name} of at least 1; received {value}")
        self._num_rows = num_rows
        self._config = config
        self._block_rows = block_rows

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """Applies the transform.

        Args:
            blocks: Interaction edges grouped by receiver.
        """
        num_rows, config = self._num_rows, self._config
        pairs, sizes = (
            blocks
            | "ByPivot" >> beam.Map(_by_pivot, min_degree=config.min_degree)
            | "CollectPivots" >> CombinePairs(num_rows, self._block_rows, np.bitwise_or)
            | "PairThroughPivots"
            >> beam.ParDo(_PairThroughPivots(config.max_pivot_degree)).with_outputs(
                _SIZES, main="pairs"
            )
        )
        sizes |= "AddSizes" >> CombinePairs(1, self._block_rows, np.add)
        return (
            pairs
            | "CountPairs" >> CombinePairs(num_rows, self._block_rows, np.add)
            | "KeepBest" >> beam.ParDo(_KeepBest(num_rows, config), sizes=beam.pvalue.AsList(sizes))
        )
