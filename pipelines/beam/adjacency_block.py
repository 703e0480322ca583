"""A run of rows of an adjacency, as Beam's workers pass it on and Parquet holds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tfmtl.graph import CSR


class AdjacencyBlock(NamedTuple):
    """The edges of some receivers.

    Args:
        rows: Receivers with edges, `int32 [R]`, ascending.
        indptr: `int64 [R + 1]`; row r of the block is `indices[indptr[r]:indptr[r + 1]]`.
        indices: Sources of the edges, `int32 [E]`, ascending within a row.
        values: Behaviours `int32 [E]` or weights `float32 [E]`.

    Example:
        >>> block = AdjacencyBlock.from_pairs(np.array([13, 10, 12]), np.ones(3, np.int32), 10)
        >>> block.rows.tolist(), block.indptr.tolist(), block.indices.tolist()
        ([1], [0, 3], [0, 2, 3])
    """

    rows: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray

    @classmethod
    def from_pairs(cls, pairs: np.ndarray, values: np.ndarray, num_columns: int) -> AdjacencyBlock:
        """Groups distinct pairs by receiver.

        Args:
            pairs: `receiver * num_columns + source`, `int64 [E]`.
            values: Feature of each pair, `[E]`.
            num_columns: Number of possible sources.
        """
        order = np.argsort(pairs, kind="stable")
        receivers, sources = np.divmod(pairs[order], num_columns)
        rows, starts = np.unique(receivers, return_index=True)
        return cls(
            rows.astype(np.int32),
            np.append(starts, receivers.size).astype(np.int64),
            sources.astype(np.int32),
            values[order],
        )

    @classmethod
    def joined(cls, blocks: Iterable[AdjacencyBlock]) -> AdjacencyBlock:
        """One block of the rows of several, which share no row.

        Args:
            blocks: At least one block.
        """
        rows, indptrs, indices, values = zip(*blocks, strict=True)
        degrees = np.concatenate([np.diff(indptr) for indptr in indptrs])
        joined = np.concatenate(rows)
        order = np.argsort(joined, kind="stable")
        starts = np.cumsum(degrees) - degrees
        indptr = np.append(0, np.cumsum(degrees[order]))
        places = np.repeat(starts[order] - indptr[:-1], degrees[order]) + np.arange(indptr[-1])
        return cls(
            joined[order], indptr, np.concatenate(indices)[places], np.concatenate(values)[places]
        )

    def split(self, block_rows: int) -> Iterator[tuple[int, AdjacencyBlock]]:
        """The parts of the block that lie in each range of `block_rows` receivers.

        Args:
            block_rows: Receivers per range.

        Yields:
            Number of the range, and the part.
        """
        numbers = self.rows // block_rows
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for start, end in zip(starts, np.append(starts[1:], numbers.size), strict=True):
            edges = slice(self.indptr[start], self.indptr[end])
            indptr = self.indptr[start : end + 1] - self.indptr[start]
            yield (
                int(numbers[start]),
                AdjacencyBlock(
                    self.rows[start:end], indptr, self.indices[edges], self.values[edges]
                ),
            )

    @property
    def receivers(self) -> np.ndarray:
        """Receiver of each edge, `int32 [E]`."""
        return np.repeat(self.rows, np.diff(self.indptr))

    def to_csr(self, num_columns: int, **data: np.ndarray) -> CSR:
        """The block as a store whose row r is the receiver `rows[r]`.

        Args:
            num_columns: Number of possible sources.
            **data: Features of the edges.
        """
        return CSR(self.indptr, self.indices, num_columns, data)

    def to_table(self) -> pa.Table:
        """One Parquet row per receiver: `row`, and the lists `columns` and `values`."""
        offsets = pa.array(self.indptr.astype(np.int32))
        columns = [
            pa.array(self.rows),
            *(
                pa.ListArray.from_arrays(offsets, pa.array(part))
                for part in (self.indices, self.values)
            ),
        ]
        return pa.table(dict(zip(("row", "columns", "values"), columns, strict=True)))

    @classmethod
    def from_table(cls, table: pa.Table) -> AdjacencyBlock:
        """The inverse of `to_table`; the rows need not ascend.

        Args:
            table: Rows of an adjacency shard.
        """
        table = table.combine_chunks().sort_by("row")
        lengths = table["columns"].combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
        indptr = np.zeros(table.num_rows + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        indices, values = (
            table[name].combine_chunks().flatten().to_numpy() for name in ("columns", "values")
        )
        return cls(table["row"].to_numpy(), indptr, indices, values)
