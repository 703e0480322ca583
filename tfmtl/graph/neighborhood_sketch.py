"""A sketch of S S^T that is never formed."""

from __future__ import annotations

import numpy as np

from tfmtl.graph.csr import CSR
from tfmtl.graph.native import native
from tfmtl.graph.row_blocks import row_blocks


@native
def _project(indptr, indices, scores, behaviors, first, last, seed, scale, out):  # type: ignore[no-untyped-def]
    """Rows `first` to `last` of S^T Omega; the signs of Omega are bits of a hash of the source."""
    dim = out.shape[1]
    for row in range(first, last):
        total = out[row]
        total[:] = 0
        for edge in range(indptr[row], indptr[row + 1]):
            score = scores[behaviors[edge]] * scale
            # With SplitMix64's own step, each source would share its words with the next one.
            state = np.uint64(indices[edge]) * np.uint64(0xD1342543DE82EF95) + seed
            for start in range(0, dim, 32):
                # One step of SplitMix64 gives 64 bits, of which the upper 32 are used.
                state += np.uint64(0x9E3779B97F4A7C15)
                bits = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                word = np.uint32((bits ^ (bits >> np.uint64(31))) >> np.uint64(32))
                for column in range(start, min(start + 32, dim)):
                    bit = (word >> np.uint32(column - start)) & np.uint32(1)
                    total[column] += score * (np.float32(2) * np.float32(bit) - np.float32(1))


@native
def _multiply(indptr, indices, scores, behaviors, rows, other, out):  # type: ignore[no-untyped-def]
    """Some rows of S times `other`."""
    for place in range(rows.size):
        row = rows[place]
        total = out[place]
        total[:] = 0
        for edge in range(indptr[row], indptr[row + 1]):
            score = scores[behaviors[edge]]
            source = other[indices[edge]]
            for column in range(total.size):
                total[column] += score * source[column]


def random_projection(
    columns: CSR, scores: np.ndarray, dim: int, seed: int, *, progress: bool = False
) -> np.ndarray:
    """S^T Omega, with the random signs of `NeighborhoodSketch`.

    Args:
        columns: Edges grouped by the M nodes whose neighbours are sketched, with `behavior`.
        scores: Score per combination of behaviours, `float32`.
        dim: Columns k.
        seed: Seed of the signs.
        progress: Whether to show a progress bar.

    Returns:
        `float32 [M, k]`. A row depends on the ids and behaviours of its own edges alone.

    Example:
        >>> edges = CSR.from_edges(np.array([0]), np.array([0]), 1, 1,
        ...                        {"behavior": np.array([1], np.uint8)})
        >>> abs(random_projection(edges, np.array([0, 1], np.float32), 4, seed=0)).tolist()
        [[0.5, 0.5, 0.5, 0.5]]
    """
    projected = np.empty((columns.num_rows, dim), np.float32)
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    scale = np.float32(dim**-0.5)

    def block(first: int, last: int) -> None:
        _project(
            columns.indptr,
            columns.indices,
            scores,
            columns.data["behavior"],
            first,
            last,
            state,
            scale,
            projected,
        )

    for _ in row_blocks(
        block, columns.num_rows, description="Sketching neighbourhoods", progress=progress
    ):
        pass
    return projected


class NeighborhoodSketch:
    """Rows of Y = S (S^T Omega), whose distances are those of the rows of S S^T.

    Omega is `[N, k]` with random signs over the square root of k (Achlioptas' form of the
    Johnson-Lindenstrauss projection), so that row distances are kept up to a relative spread of
    about 1 / sqrt(2 k). Its signs are hashes of their row's number: Omega takes no memory, and any
    part of the work makes the same one. S S^T is never formed: O(edges k) time, and memory for
    S^T Omega, `[M, k]`; rows of Y are made a block at a time.

    Args:
        rows: Edges grouped by the N nodes to sketch, with `behavior`.
        columns: The same edges grouped by the other M nodes.
        scores: Score per combination of behaviours, `float32`.
        dim: Columns k.
        seed: Seed of the signs.
        progress: Whether to show a progress bar.

    References:
        Achlioptas, Database-friendly random projections (2003). MGOE (KDD 2026) clusters the rows
        of S S^T itself.

    Example:
        >>> edges = CSR.from_edges(np.array([0, 1]), np.array([0, 0]), 2, 1,
        ...                        {"behavior": np.array([1, 1], np.uint8)})
        >>> sketch = NeighborhoodSketch(edges, edges.transpose(), np.array([0, 1], np.float32), 8)
        >>> rows = sketch.take(np.arange(2))
        >>> rows.shape, bool((rows[0] == rows[1]).all())
        ((2, 8), True)
    """

    def __init__(
        self,
        rows: CSR,
        columns: CSR,
        scores: np.ndarray,
        dim: int = 128,
        seed: int = 0,
        *,
        progress: bool = False,
    ):
        self._rows = rows
        self._scores = scores
        self._projected = random_projection(columns, scores, dim, seed, progress=progress)

    @property
    def num_rows(self) -> int:
        """Number N of sketched nodes."""
        return self._rows.num_rows

    def take(self, nodes: np.ndarray) -> np.ndarray:
        """Rows of some nodes.

        Args:
            nodes: Integers `[n]` below N.

        Returns:
            `float32 [n, k]`.
        """
        out = np.empty((len(nodes), self._projected.shape[1]), np.float32)
        _multiply(
            self._rows.indptr,
            self._rows.indices,
            self._scores,
            self._rows.data["behavior"],
            nodes,
            self._projected,
            out,
        )
        return out
