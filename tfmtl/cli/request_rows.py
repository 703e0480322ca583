"""Rows of a file as the inputs of a request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json


def read_rows(path: Path) -> dict[str, np.ndarray]:
    """Reads a CSV file with a header, or JSON lines.

    Args:
        path: File ending in `.csv`, `.json` or `.jsonl`; its columns are the model's inputs.

    Returns:
        Column name to array; lists of equal length become matrices. A missing number is NaN, a
        missing string the empty one.

    Raises:
        ValueError: If the file is empty, not readable, or of another kind, or lists of a column
            differ in length.
    """
    readers = {".csv": pa.csv.read_csv, ".json": pa.json.read_json, ".jsonl": pa.json.read_json}
    if path.suffix not in readers:
        raise ValueError(f"expected a file ending in {sorted(readers)}; received {path.name}")
    try:
        table = readers[path.suffix](path)
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if not table.num_rows:
        raise ValueError(f"{path} has no rows to score")
    return {name: _array(name, table[name]) for name in table.column_names}


def _array(name: str, column: pa.ChunkedArray) -> np.ndarray:
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_string(kind):
        return column.fill_null("").to_numpy()
    if not pa.types.is_list(kind):
        return column.to_numpy()
    lengths = pc.list_value_length(column).unique().to_pylist()
    if len(lengths) > 1:
        raise ValueError(
            f"column {name!r} holds lists of {lengths} values; expected one length: pad them"
        )
    return np.array(column.to_pylist())
