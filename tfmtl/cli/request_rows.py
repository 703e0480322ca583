"""Rows of a file as the inputs of a request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json


def read_rows(path: Path) -> dict[str, np.ndarray]:
    """Reads a CSV file with a header, or JSON lines.

    Args:
        path: File ending in `.csv`, `.json` or `.jsonl`; its columns are the model's inputs.

    Returns:
        Column name to array; lists of equal length become matrices.

    Raises:
        ValueError: If the file is empty, not readable, or of another kind.
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
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}
