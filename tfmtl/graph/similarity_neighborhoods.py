"""Who takes part in a similarity graph, and by which neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfmtl.graph.csr import CSR
from tfmtl.graph.native import native


@native
def _counted_sizes(indptr, pivots, is_counted):  # type: ignore[no-untyped-def]
    sizes = np.zeros(indptr.size - 1, np.int64)
    for row in range(sizes.size):
        for edge in range(indptr[row], indptr[row + 1]):
            sizes[row] += is_counted[pivots[edge]]
    return sizes


@dataclass(frozen=True, eq=False)
class SimilarityNeighborhoods:
    """The neighbours ("pivots") by which receivers are compared.

    Args:
        indptr: `int64 [num_receivers + 1]`.
        pivots: `int32 [num_edges]`, neighbours of each receiver, ascending.
        participants: `int32 [n]`, receivers that are compared, ascending.
        is_counted: `bool [num_pivots]`, whether a pivot is not skipped.
        sizes: `int64 [num_receivers]`, counted neighbours of each receiver.

    Example:
        >>> store = CSR.from_edges(np.array([0, 0, 1]), np.array([0, 1, 0]), 2, 2)
        >>> sides = SimilarityNeighborhoods.of(store, min_degree=1, max_pivot_degree=1)
        >>> sides.participants.tolist(), sides.is_counted.tolist(), sides.sizes.tolist()
        ([0], [False, True], [1, 0])
    """

    indptr: np.ndarray
    pivots: np.ndarray
    participants: np.ndarray
    is_counted: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, store: CSR, min_degree: int, max_pivot_degree: int) -> SimilarityNeighborhoods:
        """Applies the two limits on degrees.

        Args:
            store: Interaction edges, one row per receiver.
            min_degree: Receivers with more neighbours than this take part.
            max_pivot_degree: Highest degree of a pivot that counts.

        Returns:
            The neighbourhoods; the arrays of the store are not copied.
        """
        indptr = np.asarray(store.indptr).astype(np.int64, copy=False)
        pivots = np.asarray(store.indices)
        is_counted = np.bincount(pivots, minlength=store.num_columns) <= max_pivot_degree
        return cls(
            indptr,
            pivots,
            np.flatnonzero(np.diff(indptr) > min_degree).astype(np.int32),
            is_counted,
            _counted_sizes(indptr, pivots, is_counted),
        )
