"""The latest neighbours of every node."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfmtl.graph.csr import CSR
from tfmtl.graph.native import native
from tfmtl.graph.row_blocks import row_blocks


@native
def _latest(indptr, indices, behaviors, scores, times, first, last, neighbors, bits):  # type: ignore[no-untyped-def]
    """Keeps the best of each row in order: later, of a higher score, of a lower number."""
    most = neighbors.shape[1]
    for row in range(first, last):
        kept = np.empty(most, np.int64)
        count = 0
        for edge in range(indptr[row], indptr[row + 1]):
            place = count
            while place > 0:
                before = kept[place - 1]
                if times.size and times[edge] != times[before]:
                    better = times[edge] > times[before]
                else:
                    better = scores[behaviors[edge]] > scores[behaviors[before]]
                if not better:
                    break
                if place < most:
                    kept[place] = before
                place -= 1
            if place < most:
                kept[place] = edge
                count = min(count + 1, most)
        for place in range(count):
            neighbors[row - first, place] = indices[kept[place]]
            bits[row - first, place] = behaviors[kept[place]]


def recent_neighbors(
    edges: CSR, scores: np.ndarray, most: int, *, progress: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The latest neighbours of each node, with what happened on the edge.

    Where edges have no `time`, those of the highest score stand for the latest.

    Args:
        edges: Edges grouped by receiver, with `behavior`, each pair once, and `time` where it is
            known: that of the pair's latest row.
        scores: Score per combination of behaviours; of equal time, the higher comes first.
        most: Neighbours L that are kept.
        progress: Whether to show a progress bar.

    Yields:
        Blocks of rows in order: neighbours, `int32 [n, L]`, latest first and padded with 0, and
        their behaviours, `[n, L]` in the dtype of `behavior`.

    Example:
        >>> edges = CSR.from_edges(np.array([1, 1]), np.array([1, 2]), 2, 3, {
        ...     "behavior": np.array([1, 1], np.uint8), "time": np.array([5, 9])})
        >>> blocks = recent_neighbors(edges, np.array([0, 1], np.float32), 3)
        >>> next(blocks)[0].tolist()
        [[0, 0, 0], [2, 1, 0]]
    """
    times = edges.data.get("time", np.zeros(0, np.int64))
    behaviors = edges.data["behavior"]

    def block(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        neighbors = np.zeros((last - first, most), np.int32)
        bits = np.zeros((last - first, most), behaviors.dtype)
        _latest(edges.indptr, edges.indices, behaviors, scores, times, first, last, neighbors, bits)
        return neighbors, bits

    return row_blocks(block, edges.num_rows, description="Recent neighbours", progress=progress)
