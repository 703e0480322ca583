"""Finished rows of a similarity graph, computed block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from rich.progress import track

from tfmtl.graph.csr import CSR
from tfmtl.graph.similarity_kernel import by_column


@dataclass(frozen=True, eq=False)
class SimilarityRows:
    """Edges of some rows, one row after the other.

    Args:
        rows: `int32 [n]`, the receivers.
        counts: `int64 [n]`, edges of each.
        columns: `int32 [counts.sum()]`, ascending within a row.
        weights: `float32 [counts.sum()]`.

    Example:
        >>> first = SimilarityRows.of_lists(
        ...     np.array([2]), np.array([[3, 1]]), np.array([[9.0, 7.0]]), np.array([2]))
        >>> first.columns.tolist(), first.weights.tolist()
        ([1, 3], [7.0, 9.0])
        >>> SimilarityRows.store([first], 4).degrees.tolist()
        [0, 0, 2, 0]
    """

    rows: np.ndarray
    counts: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    @classmethod
    def of_lists(
        cls, rows: np.ndarray, best: np.ndarray, scores: np.ndarray, counts: np.ndarray
    ) -> SimilarityRows:
        """Packs lists of the best columns.

        Args:
            rows: Receivers, `[n]`.
            best: Columns of each receiver, `[n, top_k]`, in any order.
            scores: Their scores, `float64 [n, top_k]`.
            counts: Columns in use, `int64 [n]`.

        Returns:
            The rows.
        """
        return cls(rows, counts, *by_column(best, scores, counts))

    @classmethod
    def in_blocks(
        cls,
        block: Callable[[np.ndarray], SimilarityRows],
        rows: np.ndarray,
        block_rows: int,
        progress: bool,
    ) -> list[SimilarityRows]:
        """Computes rows block by block, on all processor cores that the process may use.

        Args:
            block: Computes the rows that it is given; should release the interpreter lock.
            rows: All receivers to compute.
            block_rows: Receivers per call.
            progress: Show a progress bar.

        Returns:
            The blocks, in order.
        """
        firsts = range(0, rows.size, block_rows)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            return list(
                track(
                    threads.map(lambda first: block(rows[first : first + block_rows]), firsts),
                    description="Similarity graph",
                    total=len(firsts),
                    disable=not progress,
                )
            )

    @staticmethod
    def store(blocks: Sequence[SimilarityRows], num_rows: int) -> CSR:
        """Joins blocks of different rows.

        Args:
            blocks: Rows in any order, none twice; rows in no block have no edges.
            num_rows: Number of possible receivers, and of sources.

        Returns:
            A square store with `weight float32`.
        """
        indptr = np.zeros(num_rows + 1, np.int64)
        for block in blocks:
            indptr[block.rows + 1] = block.counts
        np.cumsum(indptr, out=indptr)
        indices = np.empty(indptr[-1], np.int32)
        weight = np.empty(indptr[-1], np.float32)
        for block in blocks:
            begins = np.cumsum(block.counts) - block.counts
            places = np.repeat(indptr[block.rows] - begins, block.counts)
            places += np.arange(places.size)
            indices[places] = block.columns
            weight[places] = block.weights
        return CSR(indptr, indices, num_rows, {"weight": weight})
