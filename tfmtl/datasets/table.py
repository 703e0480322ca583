"""A log of one's own, in CSV or Parquet files, described by a schema."""

from __future__ import annotations

import datetime
import glob
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from tfmtl.data.interaction_log import InteractionLog, LogError, TrainingLog
from tfmtl.data.splits import (
    Split,
    split_by_time,
    split_leave_one_out,
    split_per_user_by_time,
    split_random,
)
from tfmtl.datasets.arrow_files import read_table
from tfmtl.datasets.dataset_error import DatasetError
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.schema import Schema, SchemaError

NAME = "table"
_SPLITS: dict[str, Callable[..., Split]] = {
    "by_time": split_by_time,
    "leave_one_out": split_leave_one_out,
    "per_user_by_time": split_per_user_by_time,
    "random": split_random,
}
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def load_table(
    data_dir: str | Path | None = None,
    *,
    log: str | Path,
    schema: str | Path | Schema,
    split: Mapping[str, Any],
    users: str | Path | None = None,
    items: str | Path | None = None,
    history: str | Path | None = None,
    licence: str = "",
    citation: str = "",
) -> LoadedDataset:
    """Loads any CSV or Parquet log through a schema.

    Files end in `.csv`, `.tsv` (either may be compressed: `.csv.gz`) or `.parquet`; a path may be a
    glob, whose files are joined in the order of their names. In text files an empty field is a
    missing value, and ids and categories become integers only where no digit is lost: a column
    with `007` in it stays text.

    Args:
        data_dir: Folder that relative paths start from; the current one when `None`.
        log: Rows of the log.
        schema: Path of the schema's YAML, or a `Schema`.
        split: `kind` (`by_time`, `leave_one_out`, `per_user_by_time` or `random`) and the arguments
            of that split, e.g. `{"kind": "by_time", "validation_from": 800, "test_from": 900}`.
            Where the time column holds dates, cuts may be written as `2024-05-31` or
            `2024-05-31T12:00:00`.
        users: Features of users, one row per user.
        items: Features of items, one row per item.
        history: Rows older than the log, for graphs and counts only.
        licence: Terms of the data.
        citation: What to cite.

    Returns:
        The log, its split and its history.

    Raises:
        DatasetError: If a file cannot be read, a column is missing, or the split is not possible.
        SchemaError: If the schema's file does not describe a schema.
    """
    base = Path(data_dir).expanduser() if data_dir is not None else Path()
    if not isinstance(schema, Schema):
        schema = _read_schema(base / schema)
    tables = {
        name: None if path is None else _read(base / path, schema)
        for name, path in (("log", log), ("users", users), ("items", items), ("history", history))
    }
    assert tables["log"] is not None
    features = (tables["users"], tables["items"])
    paths = ", ".join(str(base / path) for path in (log, users, items) if path is not None)
    try:
        whole = InteractionLog(tables["log"], schema, *features)
        parts = _split(whole, split)
    except LogError as error:
        raise DatasetError(f"{paths}: {error}") from error
    past = None
    if tables["history"] is not None:
        try:
            past = TrainingLog(tables["history"], schema, *features)
        except LogError as error:
            raise DatasetError(f"{base / str(history)}: {error}") from error
    return LoadedDataset(NAME, whole, past, parts, licence, citation)


def _read_schema(path: Path) -> Schema:
    try:
        return Schema.from_yaml(path)
    except SchemaError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read the schema {path}: {error}") from error


def _split(log: InteractionLog, split: Mapping[str, Any]) -> Split:
    arguments = dict(split)
    kind = arguments.pop("kind", None)
    cut = _SPLITS.get(str(kind))
    if cut is None:
        raise DatasetError(f"split: expected a kind out of {list(_SPLITS)}; received {kind!r}")
    accepted = dict(inspect.signature(cut).parameters)
    del accepted["log"]
    needed = {name for name, value in accepted.items() if value.default is value.empty}
    if not needed <= set(arguments) <= set(accepted):
        raise DatasetError(
            f"split {kind!r}: expected the arguments {list(accepted)}, of which "
            f"{sorted(needed)} are needed; received {sorted(arguments)}"
        )
    if cut is split_by_time:
        arguments = {name: _instant(log, name, value) for name, value in arguments.items()}
    return cut(log, **arguments)


def _instant(log: InteractionLog, name: str, value: Any) -> Any:
    """A cut in the unit of the time column; a written date becomes a number."""
    if value is None or isinstance(value, (int, float)):
        return value
    kind = None if log.schema.time is None else log.rows[log.schema.time].type
    if kind is None or not pa.types.is_temporal(kind):
        raise DatasetError(
            f"split 'by_time': {name} is {value!r}, but the time column holds no dates; expected a "
            "number in its unit"
        )
    try:
        moment = datetime.datetime.fromisoformat(str(value))
        return pa.scalar(moment).cast(kind).value
    except (ValueError, pa.ArrowInvalid) as error:
        raise DatasetError(
            f"split 'by_time': expected {name} as YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS; "
            f"received {value!r}"
        ) from error


def _read(pattern: Path, schema: Schema) -> pa.Table:
    paths = [Path(path) for path in sorted(glob.glob(str(pattern)))]
    if not paths:
        raise DatasetError(
            f"no file {pattern}; expected a path or a glob of .csv, .tsv or .parquet"
        )
    tables = [_read_file(path, schema) for path in paths]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DatasetError(f"the files of {pattern} do not fit together: {error}") from error
    if any(path.suffix == ".parquet" for path in paths):
        return table
    for position, name in enumerate(table.column_names):
        if name in _discrete_columns(schema):
            table = table.set_column(position, name, _integers_where_lossless(table[name]))
    return table


def _read_file(path: Path, schema: Schema) -> pa.Table:
    suffixes = [suffix for suffix in path.suffixes if suffix in (*_SEPARATORS, ".parquet")]
    if not suffixes:
        raise DatasetError(f"cannot read {path}: expected .csv, .tsv or .parquet")
    if suffixes[-1] == ".parquet":
        return read_table(path)
    return read_table(
        path,
        parse_options=pa_csv.ParseOptions(delimiter=_SEPARATORS[suffixes[-1]]),
        convert_options=_conversion(schema),
    )


def _conversion(schema: Schema) -> pa_csv.ConvertOptions:
    kinds = dict.fromkeys(_discrete_columns(schema), pa.string())
    for feature in schema.features:
        if feature.kind == "numeric":
            kinds[feature.source] = pa.float64()
        elif feature.is_list:
            kinds[feature.source] = pa.string()
    if schema.title is not None:
        kinds[schema.title] = pa.string()
    return pa_csv.ConvertOptions(column_types=kinds, null_values=[""], strings_can_be_null=True)


def _discrete_columns(schema: Schema) -> set[str]:
    """Columns whose values are names, even where they are spelled with digits."""
    columns = {feature.source for feature in schema.features if feature.kind == "categorical"}
    return columns | {name for name in (schema.user, schema.item) if name is not None}


def _integers_where_lossless(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        integers = column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column
    is_same = pc.all(pc.equal(integers.cast(column.type), column)).as_py()
    return integers if is_same is not False else column
