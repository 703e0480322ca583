"""Sorts edges into rows in time and memory linear in their number.

A counting sort by column followed by a stable one by row, on edge numbers of 32 bits wherever they
suffice: at 100 million edges the temporary arrays are two of 400 MB, where sorting 64-bit keys
takes several of 800 MB.
"""

from __future__ import annotations

import numpy as np

from tfmtl.graph.native import native

_INT32_MAX = np.iinfo(np.int32).max


def offset_dtype(num_edges: int) -> np.dtype:
    """The dtype of row pointers and edge numbers: `int32` where it can count the edges.

    Args:
        num_edges: Number of edges.

    Returns:
        `int32`, or `int64` from 2^31 edges on.

    Example:
        >>> offset_dtype(7), offset_dtype(2**31)
        (dtype('int32'), dtype('int64'))
    """
    return np.dtype(np.int32 if num_edges <= _INT32_MAX else np.int64)


@native
def _grouped(keys, num_keys, order):  # type: ignore[no-untyped-def]
    """Start of each key's group, and the edges of `order` grouped by key; stable."""
    starts = np.zeros(num_keys + 1, order.dtype)
    for key in keys:
        starts[key + 1] += 1
    for key in range(num_keys):
        starts[key + 1] += starts[key]
    cursor = starts[:-1].copy()
    grouped = np.empty_like(order)
    for edge in order:
        grouped[cursor[keys[edge]]] = edge
        cursor[keys[edge]] += 1
    return starts, grouped


@native
def _sort_rows_by_time(starts, order, times):  # type: ignore[no-untyped-def]
    """Sorts each row of `order` by time, in place; stable."""
    for row in range(starts.size - 1):
        edges = order[starts[row] : starts[row + 1]]
        ascending = True
        for place in range(1, edges.size):
            ascending &= times[edges[place - 1]] <= times[edges[place]]
        if not ascending:
            row_times = np.empty(edges.size, times.dtype)
            for place in range(edges.size):
                row_times[place] = times[edges[place]]
            edges[:] = edges[np.argsort(row_times, kind="mergesort")]


@native
def _transposed(indptr, indices, num_columns):  # type: ignore[no-untyped-def]
    """Row pointers and columns of the transpose, and the old position of each new edge."""
    starts = np.zeros(num_columns + 1, indptr.dtype)
    for column in indices:
        starts[column + 1] += 1
    for column in range(num_columns):
        starts[column + 1] += starts[column]
    cursor = starts[:-1].copy()
    columns = np.empty(indices.size, np.int32)
    order = np.empty(indices.size, indptr.dtype)
    for row in range(indptr.size - 1):
        for edge in range(indptr[row], indptr[row + 1]):
            place = cursor[indices[edge]]
            cursor[indices[edge]] += 1
            columns[place] = row
            order[place] = edge
    return starts, columns, order


@native
def gathered(values, order):  # type: ignore[no-untyped-def]
    """`values[order]`; NumPy would first widen `order` to 64 bits.

    Args:
        values: `[E]`.
        order: Edge numbers, `int32` or `int64 [F]`.

    Returns:
        `[F]`, of the dtype of `values`.

    Example:
        >>> gathered(np.array([5, 6, 7], np.uint8), np.array([2, 0], np.int32)).tolist()
        [7, 5]
    """
    result = np.empty(order.size, values.dtype)
    for place in range(order.size):
        result[place] = values[order[place]]
    return result


def sorted_edges(
    rows: np.ndarray,
    columns: np.ndarray,
    num_rows: int,
    num_columns: int,
    times: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Groups edges by row, each row ascending by column, or by time and then by column.

    Args:
        rows: `int [E]`, each in [0, num_rows).
        columns: `int [E]`, each in [0, num_columns).
        num_rows: Number of rows.
        num_columns: Number of columns.
        times: Integers `[E]` to sort rows by; equal times are in the order of their columns.

    Returns:
        Row pointers `[num_rows + 1]` and the edge numbers in their new order `[E]`, both of
        `offset_dtype(E)`. Edges equal in all keys stay in their order.

    Raises:
        ValueError: If an id is out of range.

    Example:
        >>> indptr, order = sorted_edges(np.array([1, 0, 1]), np.array([2, 1, 0]), 2, 3)
        >>> indptr.tolist(), order.tolist()
        ([0, 1, 3], [1, 2, 0])
    """
    for name, ids, size in (("rows", rows, num_rows), ("columns", columns, num_columns)):
        if ids.size and not (ids.min() >= 0 and ids.max() < size):
            raise ValueError(f"expected {name} in [0, {size}); received [{ids.min()}, {ids.max()}]")
    # One dtype for the ids, so that the compiled sort is one as well.
    rows, columns = (ids.astype(np.int32, copy=False) for ids in (rows, columns))
    _, order = _grouped(columns, num_columns, np.arange(rows.size, dtype=offset_dtype(rows.size)))
    indptr, order = _grouped(rows, num_rows, order)
    if times is not None:
        _sort_rows_by_time(indptr, order, times)
    return indptr, order


def transposed_edges(
    indptr: np.ndarray, indices: np.ndarray, num_columns: int, times: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups edges by column instead of by row.

    Args:
        indptr: Row pointers `[num_rows + 1]`.
        indices: Columns `int32 [E]`, rows one after another.
        num_columns: Number of columns.
        times: Integers `[E]` by which the new rows are sorted, in place of the old rows.

    Returns:
        Row pointers `[num_columns + 1]`, columns `int32 [E]`, and the old position of each edge.

    Example:
        >>> parts = transposed_edges(np.array([0, 1, 3]), np.array([1, 0, 1], np.int32), 2)
        >>> [part.tolist() for part in parts]
        [[0, 1, 3], [1, 0, 1], [1, 0, 2]]
    """
    starts, columns, order = _transposed(indptr, indices, num_columns)
    if times is not None:
        by_time = np.arange(order.size, dtype=order.dtype)
        _sort_rows_by_time(starts, by_time, gathered(times, order))
        columns, order = gathered(columns, by_time), gathered(order, by_time)
    return starts, columns, order
