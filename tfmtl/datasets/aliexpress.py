"""AliExpress: searches of a shop in four countries, with clicks and purchases."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from tfmtl.data.interaction_log import HeldOutLog, InteractionLog, TrainingLog
from tfmtl.data.splits import Split
from tfmtl.datasets.arrow_files import read_table
from tfmtl.datasets.data_home import DATA_HOME_VARIABLE, data_home, find_folder
from tfmtl.datasets.dataset_error import DatasetError
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.schema import Feature, Schema, Task

NAME = "aliexpress"
LICENCE = "AliExpress Searching System dataset of Alibaba's Tianchi (74690), whose terms hold."
CITATION = (
    "P. Li et al. Improving Multi-Scenario Learning to Rank in E-commerce by Exploiting Task "
    "Relationships in the Label Space. CIKM 2020."
)
COUNTRIES = ("nl", "es", "fr", "us")
_CATEGORICAL = tuple(f"categorical_{number}" for number in range(1, 17))
_NUMERICAL = tuple(f"numerical_{number}" for number in range(1, 64))
_LABELS = ("click", "conversion")
SCHEMA = Schema(
    user=None,
    item=None,
    tasks=(Task(name="click"), Task(name="conversion", order=1)),
    features=(
        Feature(name="country"),
        *(Feature(name=name) for name in _CATEGORICAL),
        # The release scales them to [0, 1].
        *(Feature(name=name, kind="numeric", transform="none", fill=0) for name in _NUMERICAL),
    ),
)
# Columns of the official files, which have no header, by the names of the prepared ones.
_USER_COLUMNS = ("search_id", *_CATEGORICAL[:7], *_NUMERICAL[:23], *_CATEGORICAL[7:9])
_CATEGORICAL_ITEM_COLUMNS = (19, 34, 35, 36, 40, 41, 42)


def _item_columns() -> tuple[str, ...]:
    categorical, numerical = iter(_CATEGORICAL[9:]), iter(_NUMERICAL[23:])
    names = (
        next(categorical if number in _CATEGORICAL_ITEM_COLUMNS else numerical)
        for number in range(2, 49)
    )
    return ("search_id", *names, "label")


_ITEM_COLUMNS = _item_columns()
_TYPES = {
    "search_id": pa.string(),
    **dict.fromkeys(_CATEGORICAL, pa.int32()),
    **dict.fromkeys(_NUMERICAL, pa.float32()),
    **dict.fromkeys(("label", *_LABELS), pa.int8()),
}


def fetch_aliexpress(data_dir: str | Path | None = None, progress: bool = False) -> Path:
    """Finds a copy of AliExpress; there is no package archive to fetch it from.

    Args:
        data_dir: Data home, or the folder of one country.
        progress: Without effect.

    Returns:
        The data home, or the folder of the country, as given: at least one country is in it.

    Raises:
        DatasetError: If there is no country; the message says what to put where.
    """
    del progress
    home = data_home(data_dir)
    if all(_find(home, country) is None for country in COUNTRIES):
        raise DatasetError(_how_to_get(home, COUNTRIES[0]))
    return home


def load_aliexpress(
    data_dir: str | Path | None = None,
    *,
    country: str | Sequence[str] = "nl",
    validation: float = 0.1,
) -> LoadedDataset:
    """Searched items with the tasks click and conversion, split by the release's own time cut.

    A country lies in the folder `AliExpress_NL` (or `aliexpress_NL_datasets`, the name in the
    official archive) of the data home or of its folder `aliexpress`, in one of two forms:

    - prepared: `train.csv` and `test.csv` with the columns `categorical_1` to `categorical_16`,
      `numerical_1` to `numerical_63`, `click` and `conversion`, as written by `preprocess.py` of
      easezyc/Multitask-Recommendation-Library, the usual protocol;
    - official, unpacked: `nl_user_train.csv`, `nl_item_train.csv` and the two of the test, without
      header. A row of the user file is a result page, 33 columns; one of the item file is an item
      on it, 49 columns; the first of both is the search id, the last of the item file is 0 for
      seen, 1 for clicked and 2 for bought. They are joined to what the protocol makes of them.

    Where both are there, the prepared one is read. Both tasks are defined on all rows: conversion
    is the rate of purchases among everything seen (CTCVR), not among clicks. Rows have neither
    user nor item ids, so there is no GAUC: watch `auc`. Numerical values are passed on as they
    are; a missing one is 0. The protocol stops early on the test part; here the last rows of the
    training file are the validation part instead.

    Several countries make one log, country after country in each part, that the feature `country`
    tells apart. A row takes some 320 bytes of memory, and up to twice that while the official files
    are joined.

    Args:
        data_dir: Data home, or the folder of the one country.
        country: `nl`, `es`, `fr` or `us`, or several of them.
        validation: Share of each country's training file, its last rows, that is held out.

    Returns:
        The log without ids and times, and its split; no history.

    Raises:
        DatasetError: If there is no copy, a file is malformed, or an option is out of range.
    """
    countries = _checked_countries(country)
    if not 0 < validation < 1:
        raise DatasetError(f"{NAME}: expected 0 < validation < 1; received {validation!r}")
    home = data_home(data_dir)
    parts: tuple[list[pa.Table], ...] = ([], [], [])
    for name in countries:
        folder = _find(home, name)
        if folder is None:
            raise DatasetError(_how_to_get(home, name))
        train = _read(folder, name, "train")
        held_out = int(train.num_rows * validation)
        if held_out == 0:
            raise DatasetError(
                f"{folder}: {validation:g} of {train.num_rows} training rows are none to validate "
                "on: raise validation"
            )
        cut = train.num_rows - held_out
        for part, rows in zip(
            parts, (train.slice(0, cut), train.slice(cut), _read(folder, name, "test")), strict=True
        ):
            part.append(rows)
    tables = [pa.concat_tables(part) for part in parts]
    split = Split(
        train=TrainingLog(tables[0], SCHEMA),
        validation=HeldOutLog(tables[1], SCHEMA),
        test=HeldOutLog(tables[2], SCHEMA),
    )
    log = InteractionLog(pa.concat_tables(tables), SCHEMA)
    return LoadedDataset(NAME, log, None, split, LICENCE, CITATION)


def _checked_countries(country: str | Sequence[str]) -> list[str]:
    countries = [country] if isinstance(country, str) else list(country)
    unknown = [name for name in countries if name not in COUNTRIES]
    if unknown or not countries or len(set(countries)) < len(countries):
        raise DatasetError(
            f"{NAME}: expected country to be one of {list(COUNTRIES)}, or a list of distinct ones; "
            f"received {country!r}"
        )
    return countries


def _find(home: Path, country: str) -> Path | None:
    own = (f"AliExpress_{country.upper()}", f"aliexpress_{country.upper()}_datasets")
    folders = (*(f"{NAME}/{name}" for name in own), *own)
    prepared = find_folder(home, folders, (("train.csv",), ("test.csv",)))
    # The names of prepared files do not tell countries apart: only that of their folder does.
    if prepared is not None and (prepared != home or home.resolve().name in own):
        return prepared
    official = [
        (f"{country}_{side}_{part}.csv",) for side in ("user", "item") for part in ("train", "test")
    ]
    return find_folder(home, (*folders, NAME), official)


def _how_to_get(home: Path, country: str) -> str:
    upper = country.upper()
    return (
        f"no complete copy of {NAME}, country {country!r}, in {home}: expected "
        f"{NAME}/AliExpress_{upper}/ with {country}_user_train.csv, {country}_item_train.csv, "
        f"{country}_user_test.csv and {country}_item_test.csv, or with the prepared train.csv and "
        f"test.csv. Download aliexpress_{upper}_datasets.zip from "
        "https://tianchi.aliyun.com/dataset/74690, unpack it and the archives in it, and let "
        f"--data-dir or {DATA_HOME_VARIABLE} point to the folder that holds {NAME}/"
    )


def _read(folder: Path, country: str, part: str) -> pa.Table:
    path = folder / f"{part}.csv"
    rows = _prepared(path) if path.exists() else _joined(folder, country, part)
    # One dictionary for all countries, so that their rows can be joined and filtered as they are.
    codes = np.full(rows.num_rows, COUNTRIES.index(country), np.int8)
    names = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(COUNTRIES))
    return rows.append_column("country", names).select(
        ["country", *_CATEGORICAL, *_NUMERICAL, *_LABELS]
    )


def _prepared(path: Path) -> pa.Table:
    needed = [*_CATEGORICAL, *_NUMERICAL, *_LABELS]
    rows = read_table(
        path,
        convert_options=pa_csv.ConvertOptions(column_types=_TYPES, include_columns=needed),
    )
    _check_rows(path, rows)
    for label in _LABELS:
        _check_labels(path, rows, label, (0, 1))
    orphans = pc.sum(pc.greater(rows["conversion"], rows["click"])).as_py()
    if orphans:
        raise DatasetError(
            f"{path}: expected conversion to imply click; received {orphans} of {rows.num_rows} "
            "rows with conversion 1 and click 0: write the file again"
        )
    return rows


def _joined(folder: Path, country: str, part: str) -> pa.Table:
    paths = [folder / f"{country}_{side}_{part}.csv" for side in ("user", "item")]
    users, items = (
        read_table(
            path,
            read_options=pa_csv.ReadOptions(column_names=list(columns)),
            convert_options=pa_csv.ConvertOptions(column_types=_TYPES),
        )
        for path, columns in zip(paths, (_USER_COLUMNS, _ITEM_COLUMNS), strict=True)
    )
    _check_labels(paths[1], items, "label", (0, 1, 2))
    pairs = _numbered(users, "user").join(_numbered(items, "item"), "search_id", join_type="inner")
    user, item = (pairs[side].to_numpy() for side in ("user", "item"))
    found = len(np.unique(item))
    if found == 0:
        raise DatasetError(
            f"{paths[1]}: no search id of it is in {paths[0]}: take both files from one release"
        )
    if found < items.num_rows:
        warnings.warn(
            f"{paths[1]}: left out {items.num_rows - found} of {items.num_rows} rows, whose search "
            f"ids are not in {paths[0]}",
            stacklevel=2,
        )
    order = np.lexsort((item, user))
    rows = _take(items.drop_columns("search_id"), item[order])
    label = rows["label"]
    for name, column in zip(_USER_COLUMNS[1:], _take(users, user[order]).columns[1:], strict=True):
        rows = rows.append_column(name, column)
    click = pc.greater_equal(label, 1).cast(pa.int8())
    conversion = pc.equal(label, 2).cast(pa.int8())
    return rows.append_column("click", click).append_column("conversion", conversion)


def _numbered(table: pa.Table, name: str) -> pa.Table:
    numbers = pa.array(np.arange(table.num_rows, dtype=np.int32))
    return pa.table({"search_id": table["search_id"], name: numbers})


def _take(table: pa.Table, positions: np.ndarray) -> pa.Table:
    if np.array_equal(positions, np.arange(table.num_rows)):
        return table
    return table.take(pa.array(positions))


def _check_rows(path: Path, rows: pa.Table) -> None:
    if rows.num_rows == 0:
        raise DatasetError(f"{path}: expected rows; received a header alone: replace the file")


def _check_labels(path: Path, rows: pa.Table, name: str, allowed: tuple[int, ...]) -> None:
    is_bad = pc.invert(pc.is_in(rows[name], value_set=pa.array(allowed, pa.int8())))
    first = pc.index(is_bad, True).as_py()
    if first >= 0:
        raise DatasetError(
            f"{path}: expected the column {name!r} to be one of {list(allowed)}; received "
            f"{rows[name][first].as_py()} in row {first + 1} and {pc.sum(is_bad).as_py() - 1} "
            "malformed values after it: replace the file"
        )
