"""Prefix sums of edge weights, for draws in proportion to them."""

from __future__ import annotations

import numpy as np

from tfmtl.graph.csr import CSR
from tfmtl.graph.native import native


@native
def _sums_within_rows(indptr, weights):  # type: ignore[no-untyped-def]
    """Sums of `weights` up to each edge from the start of its row, and the first bad edge or -1."""
    sums = np.empty(weights.size, np.float64)
    for row in range(indptr.size - 1):
        total = 0.0
        for edge in range(indptr[row], indptr[row + 1]):
            if not (weights[edge] > 0 and np.isfinite(weights[edge])):
                return sums, edge
            total += weights[edge]
            sums[edge] = total
    return sums, -1


def cumulative_weights(store: CSR) -> np.ndarray:
    """Sums of the edge data `weight` within each row.

    Args:
        store: A store with `weight`.

    Returns:
        `float64 [num_edges]`: the weight of a row's edges up to and including each one.

    Raises:
        ValueError: If a weight is not positive and finite.

    Example:
        >>> rows, columns = np.array([0, 0, 1]), np.array([0, 1, 1])
        >>> weight = np.array([1, 2, 4], np.float32)
        >>> cumulative_weights(CSR.from_edges(rows, columns, 2, 2, {"weight": weight})).tolist()
        [1.0, 3.0, 4.0]
    """
    weights = np.asarray(store.data["weight"])
    sums, fault = _sums_within_rows(np.asarray(store.indptr), weights)
    if fault >= 0:
        row = np.searchsorted(store.indptr, fault, side="right") - 1
        raise ValueError(
            f"row {row}: expected positive, finite weights to draw in proportion to; received "
            f"{weights[fault]}"
        )
    return sums
