"""Finds the receivers that have most neighbours in common with given ones."""

from __future__ import annotations

import numpy as np

from tfmtl.graph.native import native
from tfmtl.graph.similarity_config import Measure
from tfmtl.graph.similarity_kernel import CHUNK, best_columns, columns_of_pivots
from tfmtl.graph.similarity_neighborhoods import SimilarityNeighborhoods
from tfmtl.graph.similarity_parameters import MEASURES
from tfmtl.graph.similarity_rows import SimilarityRows

# A hub costs one addition of 64 columns per word of its bitmap, any other pivot one increment per
# member; an increment is worth about this many columns of additions, measured.
_COLUMNS_PER_MEMBER = 256
# Clearing and searching the counts of a row cost as much as adding this many hubs.
_SEARCH_IN_HUBS = 8
_MAX_BITMAP_BITS = 1 << 32


def _hubs(degrees: np.ndarray, num_columns: int) -> np.ndarray:
    """Pivots that are cheaper to count by bitmaps, by falling degree."""
    width = max(num_columns, 64 * CHUNK)
    order = np.argsort(-degrees, kind="stable")[: _MAX_BITMAP_BITS // width]
    hubs = order[degrees[order] * _COLUMNS_PER_MEMBER > width]
    # Rows are taken to list pivots as often as columns do.
    members = degrees[hubs].astype(np.float64)
    increments = np.square(members).sum() * _COLUMNS_PER_MEMBER
    additions = (members.sum() + _SEARCH_IN_HUBS * num_columns) * width
    return hubs if increments > additions else hubs[:0]


@native
def _degrees(rows, indptr, pivots, num_pivots):  # type: ignore[no-untyped-def]
    degrees = np.zeros(num_pivots, np.int64)
    for row in rows:
        for edge in range(indptr[row], indptr[row + 1]):
            degrees[pivots[edge]] += 1
    return degrees


class SimilarityIndex:
    """Columns by pivot, for counting the neighbours that rows share with them.

    Counting is exact for every pivot; only its form follows the pivot's degree. A hub is a bitmap
    over the columns. The bitmaps of a row's hubs are added in bit-sliced counters, 64 columns per
    machine word and more per vector instruction, and the counters are compared with the score to
    beat in the same way. The members of all other pivots are counted one by one.

    Args:
        neighborhoods: Neighbours of rows and columns.
        columns: `int32 [n]`, receivers that rows are linked to.
        measure: What columns are ranked by.
        min_common: Only columns with more common neighbours than this are found.
        hubs: Counted pivots to keep as bitmaps; the cheapest choice when `None`.

    Example:
        >>> from tfmtl.graph.csr import CSR
        >>> store = CSR.from_edges(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 2, 2)
        >>> sides = SimilarityNeighborhoods.of(store, min_degree=0, max_pivot_degree=9)
        >>> index = SimilarityIndex(sides, sides.participants, "count", min_common=1)
        >>> found = index.rows(sides.participants, top_k=1)
        >>> found.columns.tolist(), found.weights.tolist()
        ([1, 0], [2.0, 2.0])
    """

    def __init__(
        self,
        neighborhoods: SimilarityNeighborhoods,
        columns: np.ndarray,
        measure: Measure,
        min_common: int,
        hubs: np.ndarray | None = None,
    ) -> None:
        self._neighborhoods = neighborhoods
        self._measure = MEASURES.index(measure)
        self._min_common = min_common
        sizes = neighborhoods.sizes[columns]
        if measure != "count":
            # Columns of about one size need about one count to reach a normalised score.
            order = np.argsort(-sizes, kind="stable")
            columns, sizes = columns[order], sizes[order]
        self._columns, self._column_sizes = columns, sizes.astype(np.int32)
        degrees = np.where(
            neighborhoods.is_counted,
            _degrees(
                columns,
                neighborhoods.indptr,
                neighborhoods.pivots,
                neighborhoods.is_counted.size,
            ),
            0,
        )
        self.hubs = _hubs(degrees, columns.size) if hubs is None else hubs
        self._hub_of = np.where(neighborhoods.is_counted, -1, -2).astype(np.int32)
        self._hub_of[self.hubs] = np.arange(self.hubs.size)
        self._members = columns_of_pivots(
            columns, neighborhoods.indptr, neighborhoods.pivots, self._hub_of, self.hubs.size
        )

    def search(
        self, rows: np.ndarray, best: np.ndarray, scores: np.ndarray, counts: np.ndarray
    ) -> None:
        """Offers the columns to the lists of some rows; releases the interpreter lock.

        Args:
            rows: `int32 [n]`, receivers.
            best: `int32 [n, top_k]`, the columns found so far, best first; changed in place.
            scores: `float64 [n, top_k]`, their scores; changed in place.
            counts: `int64 [n]`, columns found so far; changed in place.
        """
        best_columns(
            rows,
            self._neighborhoods.sizes[rows],
            self._neighborhoods.indptr,
            self._neighborhoods.pivots,
            self._hub_of,
            self._columns,
            self._column_sizes,
            *self._members,
            best,
            scores,
            counts,
            self._measure,
            self._min_common,
        )

    def rows(self, rows: np.ndarray, top_k: int) -> SimilarityRows:
        """Finds the best columns of some rows.

        Args:
            rows: `int32 [n]`, receivers.
            top_k: Most edges of a row.

        Returns:
            The finished rows.
        """
        best = np.empty((rows.size, top_k), np.int32)
        scores = np.empty((rows.size, top_k), np.float64)
        counts = np.zeros(rows.size, np.int64)
        self.search(rows, best, scores, counts)
        return SimilarityRows.of_lists(rows, best, scores, counts)
