"""Canonical forms of Arrow columns: one type per family, so that rooms agree on values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def canonical(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One contiguous array in the widest type of the column's family.

    Integers, booleans and clocks become `int64`, floats and decimals `float64`, strings
    `large_string`, lists `large_list` of a canonical type; dictionaries are decoded.

    Args:
        column: Any column of these families, with or without nulls.

    Returns:
        Array of the same length with the same nulls.

    Raises:
        TypeError: If the column is of another family (struct, map, binary).

    Example:
        >>> canonical(pa.chunked_array([pa.array([True, None]), pa.array([False])])).to_pylist()
        [1, None, 0]
    """
    target = _canonical_type(column.type)
    if pa.types.is_temporal(column.type):
        # Clocks cast to an integer of their own width only, in their own unit.
        column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
    column = column.cast(target)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def identifiers(column: pa.ChunkedArray | pa.Array | np.ndarray) -> pa.Array:
    """The column as ids: `int64` or `large_string`, missing values as nulls.

    Floats are accepted when every value is whole, which is what a missing integer becomes on its
    way through CSV.

    Args:
        column: Arrow column, or NumPy array of integers or strings.

    Returns:
        `int64` or `large_string` array of the same length.

    Raises:
        ValueError: If the values are neither integers nor strings.

    Example:
        >>> identifiers(np.array([3.0, np.nan])).to_pylist()
        [3, None]
    """
    if isinstance(column, np.ndarray):
        column = pa.array(column, from_pandas=True)
    values = canonical(column)
    if pa.types.is_null(values.type):
        return values.cast(pa.int64())
    if pa.types.is_floating(values.type):
        numbers = values.to_numpy(zero_copy_only=False)
        missing = np.isnan(numbers)
        whole = np.where(missing, 0.0, numbers)
        broken = whole[whole != np.floor(whole)]
        if len(broken):
            raise ValueError(
                f"expected integer or string ids; received {broken[0]!r} and {len(broken) - 1} "
                "other fractions: cast the column, or declare the feature as numeric"
            )
        return pa.array(whole.astype(np.int64), mask=missing)
    if pa.types.is_int64(values.type) or pa.types.is_large_string(values.type):
        return values
    raise ValueError(f"expected integer or string ids; received a column of {column.type}")


def to_ids(values: pa.Array) -> np.ndarray:
    """NumPy form of `identifiers`: `int64 [n]`, or `object [n]` of `str`."""
    return values.to_numpy(zero_copy_only=False)


def hash_column(digest: Any, column: pa.ChunkedArray | pa.Array) -> None:
    """Feeds the column's content to `digest`, whatever its chunks, offsets and integer width.

    Args:
        digest: Object with `update(bytes)`, such as `hashlib.sha256()`.
        column: Column to hash; values under nulls do not count.
    """
    values = canonical(column)
    digest.update(f"{values.type}:{len(values)}:".encode())
    if pa.types.is_null(values.type):
        return
    digest.update(np.packbits(values.is_null().to_numpy(zero_copy_only=False)).tobytes())
    if pa.types.is_large_list(values.type):
        digest.update(_bytes(pc.fill_null(pc.list_value_length(values), 0)))
        hash_column(digest, pc.list_flatten(values))
    elif pa.types.is_large_string(values.type):
        values = pc.fill_null(values, "")
        digest.update(_bytes(pc.binary_length(values)))
        _, offsets, data = values.buffers()
        ends = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
        if data is not None:
            digest.update(memoryview(data)[ends[0] : ends[-1]])
    else:
        digest.update(_bytes(pc.fill_null(values, 0)))


def _bytes(values: pa.Array) -> bytes:
    return values.to_numpy(zero_copy_only=False).tobytes()


def _canonical_type(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_dictionary(kind):
        return _canonical_type(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.large_list(_canonical_type(kind.value_type))
    if types.is_integer(kind) or types.is_boolean(kind) or types.is_temporal(kind):
        return pa.int64()
    if types.is_floating(kind) or types.is_decimal(kind):
        return pa.float64()
    if types.is_string(kind) or types.is_large_string(kind):
        return pa.large_string()
    if types.is_null(kind):
        return kind
    raise TypeError(
        f"expected a column of numbers, strings, clocks or lists of them; received {kind}"
    )
