"""The compressed-sparse-row store of one edge set."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from tfmtl.graph.counting_sort import gathered, offset_dtype, sorted_edges, transposed_edges
from tfmtl.graph.native import native
from tfmtl.graph.written_aside import written_aside

Order = Literal["column", "time"]
_HEADER = "csr.json"
_INTEGERS = (np.int32, np.int64)


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
def _first_fault_in_time(indptr, indices, times, num_columns):  # type: ignore[no-untyped-def]
    """As `_first_fault`, for rows that ascend by time and then by column, repeats allowed."""
    for row in range(indptr.size - 1):
        if indptr[row + 1] < indptr[row] or indptr[row + 1] > indices.size:
            return 1, row
        for edge in range(indptr[row], indptr[row + 1]):
            if indices[edge] < 0 or indices[edge] >= num_columns:
                return 2, row
            if edge > indptr[row] and (
                times[edge] < times[edge - 1]
                or (times[edge] == times[edge - 1] and indices[edge] < indices[edge - 1])
            ):
                return 4, row
    return 0, -1


@dataclass(frozen=True, eq=False)
class CSR:
    """Edges of one edge set, grouped by receiver: row r lists the sources that r aggregates.

    In the order `column` the columns of a row ascend strictly, so an edge is found by binary search
    and never stored twice. In the order `time` a row ascends by the edge data `time`, then by
    column, so what came before any moment is a prefix; a pair may have any number of edges.

    Args:
        indptr: `[num_rows + 1]`; row r is `indices[indptr[r]:indptr[r + 1]]`. Kept as `int32` where
            that can count the edges, else as `int64`; a memory-mapped one is kept as it is.
        indices: `int32 [num_edges]`, source of each edge.
        num_columns: Number of possible sources.
        data: Feature name to `[num_edges]` array, in the order of `indices`.
        order: `column` or `time`.

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
    order: Order = "column"

    def __post_init__(self) -> None:
        if self.order not in get_args(Order):
            raise ValueError(f"expected order='column' or 'time'; received {self.order!r}")
        if self.indptr.ndim != 1 or self.indptr.size < 1 or self.indptr.dtype not in _INTEGERS:
            raise ValueError(
                "expected indptr of dtype int32 or int64 and shape [num_rows + 1]; received "
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
        if self.order == "time" and (
            "time" not in self.data or self.data["time"].dtype not in _INTEGERS
        ):
            raise ValueError(
                "expected edge data 'time' of dtype int32 or int64 for the order 'time'; received "
                f"{ {name: str(values.dtype) for name, values in self.data.items()} }"
            )
        if not isinstance(self.indices, np.memmap):
            self.validate()
        if not isinstance(self.indptr, np.memmap):
            narrow = self.indptr.astype(offset_dtype(self.indices.size), copy=False)
            object.__setattr__(self, "indptr", narrow)

    @classmethod
    def from_edges(
        cls,
        rows: np.ndarray,
        columns: np.ndarray,
        num_rows: int,
        num_columns: int,
        data: dict[str, np.ndarray] | None = None,
        order: Order = "column",
    ) -> CSR:
        """Sorts edges into rows, in linear time. An edge from a node to itself is one like others.

        Args:
            rows: Receiver of each edge, `[num_edges]`.
            columns: Source of each edge, `[num_edges]`.
            num_rows: Number of possible receivers.
            num_columns: Number of possible sources.
            data: Features of the edges, in the order of `rows`.
            order: `column`, for distinct edges, or `time`, which sorts by `data["time"]` first.

        Returns:
            The store.

        Raises:
            ValueError: If an id is out of range, an edge occurs twice in the order `column`, or
                there are no times in the order `time`.
        """
        data = data or {}
        if order == "time" and "time" not in data:
            raise ValueError(f"expected edge data 'time' to sort by; received {list(data)}")
        indptr, places = sorted_edges(
            rows, columns, num_rows, num_columns, data["time"] if order == "time" else None
        )
        return cls(
            indptr,
            gathered(columns, places).astype(np.int32, copy=False),
            num_columns,
            {name: gathered(values, places) for name, values in data.items()},
            order,
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
        return np.diff(self.indptr).astype(np.int64, copy=False)

    def validate(self) -> None:
        """Reads every edge and checks that rows are in range and ascend strictly.

        Raises:
            ValueError: Names the first row at fault.
        """
        indptr, indices = np.asarray(self.indptr), np.asarray(self.indices)
        if self.order == "time":
            times = np.asarray(self.data["time"])
            fault, row = _first_fault_in_time(indptr, indices, times, self.num_columns)
        else:
            fault, row = _first_fault(indptr, indices, self.num_columns)
        if fault:
            expected = {
                1: "an indptr that never decreases",
                2: f"columns in [0, {self.num_columns})",
                3: "strictly ascending columns (sorted, no edge twice; CSR.from_edges sorts)",
                4: "edges that ascend by time, then by column (CSR.from_edges sorts)",
            }[fault]
            raise ValueError(f"row {row}: expected {expected}")

    def transpose(self) -> CSR:
        """The same edges grouped by source, in the same kind of order.

        O(num_edges); rows that must be sorted by time anew are, in O(n log n) each.
        """
        indptr, indices, places = transposed_edges(
            np.asarray(self.indptr),
            np.asarray(self.indices),
            self.num_columns,
            np.asarray(self.data["time"]) if self.order == "time" else None,
        )
        data = {name: gathered(np.asarray(values), places) for name, values in self.data.items()}
        return CSR(indptr, indices, self.num_rows, data, self.order)

    def save(self, folder: Path | str) -> None:
        """Writes one `.npy` per array; an earlier store in `folder` is replaced as a whole."""
        with written_aside(Path(folder), _HEADER) as aside:
            arrays = {"indptr": self.indptr, "indices": self.indices, **self.data}
            for name, values in arrays.items():
                np.save(aside / f"{name}.npy", values)
            header = {
                "num_columns": self.num_columns,
                "data": list(self.data),
                "order": self.order,
            }
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
        return cls(indptr, indices, header["num_columns"], named, header["order"])
