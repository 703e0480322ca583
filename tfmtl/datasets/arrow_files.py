"""Tables from files, with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from tfmtl.datasets.dataset_error import DatasetError


def read_table(
    path: Path,
    *,
    needed: Iterable[str] = (),
    read_options: pa_csv.ReadOptions | None = None,
    parse_options: pa_csv.ParseOptions | None = None,
    convert_options: pa_csv.ConvertOptions | None = None,
) -> pa.Table:
    """Reads a Parquet file, or a text file with one row per line.

    Args:
        path: Read as Parquet when it ends in `.parquet`, else as text, decompressed by its ending.
        needed: Columns that must be there.
        read_options: Of text files, see `pyarrow.csv`.
        parse_options: Of text files.
        convert_options: Of text files.

    Returns:
        The whole table.

    Raises:
        DatasetError: If the file cannot be read or lacks a needed column.
    """
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
        else:
            table = pa_csv.read_csv(path, read_options, parse_options, convert_options)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"cannot read {path}: {error}; replace the file") from error
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise DatasetError(f"{path}: expected the columns {missing}; received {table.column_names}")
    return table
