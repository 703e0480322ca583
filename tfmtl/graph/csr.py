"""The compressed-sparse-row store of one edge set."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfmtl.graph.native import native
from tfmtl.graph.written_aside import written_aside

_HEADER = "csr.json"


@native
def _first_fault(indptr, indices, num_columns):  # type: ignore[no-untyped-def]
    """Code and row of the first fault: 1 row pointer, 2 column range, 3 order; (0, -1) if none."""
    for row in range(indptr.size - 1):
        if indptr[row + 1] < indptr[row] or indptr[row + 1] > indices.size:
            return 1, row
        for edge in range(indptr[row], indptr[row + 1]):
            if indices[edge] < 0 or indices[edge] >= num_columns:
                return 2, row
            if edge > indptr[row] and indices[edge] <= indices[edge - 1]:
                return 3, row
    return 0, -1


@native
def _transpose(indptr, indices, num_columns):  # type: ignore[no-untyped-def]
    """Row pointers and columns of the transpose, and the old position of each new edge."""
    starts = np.zeros(num_columns + 1, np.int64)
    for column in indices:
        starts[column + 1] += 1
    for column in range(num_columns):
        starts[column + 1] += starts[column]
    cursor = starts[:-1].copy()
    columns = np.empty(indices.size, np.int32)
    order = np.empty(indices.size, np.int64)
    for row in range(indptr.size - 1):
        for edge in range(indptr[row], indptr[row + 1]):
            place = cursor[indices[edge]]
            cursor[indices[edge]] += 1
            columns[place] = row
            order[place] = edge
    return starts, columns, order


@dataclass(frozen=True, eq=False)
class CSR:
    """Edges of one edge set, grouped by receiver: row r lists the sources that r aggregates.

    Within a row the columns ascend strictly, so an edge is found by binary search and never
    stored twice.

    Args:
        indptr: `int64 [num_rows + 1]`; row r is `indices[indptr[r]:indptr[r + 1]]`.
        indices: `int32 [num_edges]`, source of each edge.
        num_columns: Number of possible sources.
        data: Feature name to `[num_edges]` array, in the order of `indices`.

    Raises:
        ValueError: If shapes, dtypes or order do not fit. Memory-mapped edges are not read through
            for this; `validate` does.

    Example:
        >>> csr = CSR.from_edges(np.array([1, 0, 1]), np.array([2, 1, 0]), 2, 3)
        >>> csr.indptr.tolist(), csr.indices.tolist()
        ([0, 1, 3], [1, 0, 2])
        >>> csr.transpose().indices.tolist()
        [1, 0, 1]
    """

    indptr: np.ndarray
    indices: np.ndarray
    num_columns: int
    data: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.indptr.ndim != 1 or self.indptr.size < 1 or self.indptr.dtype != np.int64:
            raise ValueError(
                "expected indptr of dtype int64 and shape [num_rows + 1]; received "
                f"{self.indptr.dtype} {list(self.indptr.shape)}"
            )
        if self.indices.ndim != 1 or self.indices.dtype != np.int32:
            raise ValueError(
                "expected indices of dtype int32 and shape [num_edges]; received "
                f"{self.indices.dtype} {list(self.indices.shape)}"
            )
        if self.indptr[0] != 0 or self.indptr[-1] != self.indices.size:
            raise ValueError(
                f"expected indptr from 0 to {self.indices.size} (the number of edges); received "
                f"{self.indptr[0]} to {self.indptr[-1]}"
            )
        for name, values in self.data.items():
            if name in ("indptr", "indices") or values.shape != self.indices.shape:
                raise ValueError(
                    f"expected edge data {name!r} of shape {list(self.indices.shape)} under a name "
                    f"other than indptr and indices; received shape {list(values.shape)}"
                )
        if not isinstance(self.indices, np.memmap):
            self.validate()

    @classmethod
    def from_edges(
        cls,
        rows: np.ndarray,
        columns: np.ndarray,
        num_rows: int,
        num_columns: int,
        data: dict[str, np.ndarray] | None = None,
    ) -> CSR:
        """Sorts distinct edges into rows.

        Args:
            rows: Receiver of each edge, `[num_edges]`.
            columns: Source of each edge, `[num_edges]`.
            num_rows: Number of possible receivers.
            num_columns: Number of possible sources.
            data: Features of the edges, in the order of `rows`.

        Returns:
            The store.

        Raises:
            ValueError: If an id is out of range or an edge occurs twice.
        """
        for name, ids, size in (("rows", rows, num_rows), ("columns", columns, num_columns)):
            if ids.size and not (ids.min() >= 0 and ids.max() < size):
                raise ValueError(
                    f"expected {name} in [0, {size}); received [{ids.min()}, {ids.max()}]"
                )
        order = np.argsort(rows.astype(np.int64) * num_columns + columns, kind="stable")
        indptr = np.zeros(num_rows + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=num_rows), out=indptr[1:])
        return cls(
            indptr,
            columns[order].astype(np.int32),
            num_columns,
            {name: values[order] for name, values in (data or {}).items()},
        )

    @property
    def num_rows(self) -> int:
        """Number of receivers."""
        return self.indptr.size - 1

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return self.indices.size

    @property
    def degrees(self) -> np.ndarray:
        """Edges of each row, `int64 [num_rows]`."""
        return np.diff(self.indptr)

    def validate(self) -> None:
        """Reads every edge and checks that rows are in range and ascend strictly.

        Raises:
            ValueError: Names the first row at fault.
        """
        fault, row = _first_fault(
            np.asarray(self.indptr), np.asarray(self.indices), self.num_columns
        )
        if fault:
            expected = {
                1: "an indptr that never decreases",
                2: f"columns in [0, {self.num_columns})",
                3: "strictly ascending columns (sorted, no edge twice; CSR.from_edges sorts)",
            }[fault]
            raise ValueError(f"row {row}: expected {expected}")

    def transpose(self) -> CSR:
        """The same edges grouped by source; O(num_edges)."""
        indptr, indices, order = _transpose(
            np.asarray(self.indptr), np.asarray(self.indices), self.num_columns
        )
        data = {name: np.asarray(values)[order] for name, values in self.data.items()}
        return CSR(indptr, indices, self.num_rows, data)

    def save(self, folder: Path | str) -> None:
        """Writes one `.npy` per array; an earlier store in `folder` is replaced as a whole."""
        with written_aside(Path(folder), _HEADER) as aside:
            arrays = {"indptr": self.indptr, "indices": self.indices, **self.data}
            for name, values in arrays.items():
                np.save(aside / f"{name}.npy", values)
            header = {"num_columns": self.num_columns, "data": list(self.data)}
            (aside / _HEADER).write_text(json.dumps(header), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str, mmap: bool = True) -> CSR:
        """Opens a saved store.

        Args:
            folder: What `save` was given.
            mmap: Map the arrays into memory instead of reading them; pages are read on first use
                and shared between processes.

        Returns:
            The store.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If the arrays do not fit together.
        """
        folder = Path(folder)
        header = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
        indptr, indices, *data = (
            np.load(folder / f"{name}.npy", mmap_mode="r" if mmap else None)
            for name in ("indptr", "indices", *header["data"])
        )
        named = dict(zip(header["data"], data, strict=True))
        return cls(indptr, indices, header["num_columns"], named)
