"""Ali-CCP: impressions of Taobao's recommendations, with clicks and the purchases after them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from tfmtl.data.interaction_log import HeldOutLog, InteractionLog, TrainingLog
from tfmtl.data.splits import Split
from tfmtl.datasets.data_home import DATA_HOME_VARIABLE, data_home, find_folder
from tfmtl.datasets.dataset_error import DatasetError
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.schema import Feature, Schema, Task

NAME = "ali-ccp"
LICENCE = "Alibaba Click and Conversion Prediction of Alibaba's Tianchi (408), whose terms hold."
CITATION = (
    "X. Ma et al. Entire Space Multi-Task Model: An Effective Approach for Estimating "
    "Post-Click Conversion Rate. SIGIR 2018. doi:10.1145/3209978.3210104"
)
_USER_FIELDS = ("101", "121", "122", "124", "125", "126", "127", "128", "129")
_HISTORY_FIELDS = ("109_14", "110_14", "127_14", "150_14")
_ROW_FIELDS = ("205", "206", "207", "216", "508", "509", "702", "853", "301")
_COLUMNS = {
    **{field: f"user_{field}" for field in (*_USER_FIELDS, *_HISTORY_FIELDS)},
    **{field: f"item_{field}" for field in ("206", "207", "216")},
    **{field: f"combination_{field}" for field in ("508", "509", "702", "853")},
    "101": "user_id",
    "205": "item_id",
    "301": "context_301",
}
_SKELETON, _COMMON = "sample_skeleton", "common_features"
_PARTS = ("train", "test")
_SKELETON_COLUMNS = ("sample", "click", "conversion", "common", "count", "features")
_COMMON_COLUMNS = ("common", "count", "features")
_BLOCK_BYTES = 1 << 26


def fetch_aliccp(data_dir: str | Path | None = None, progress: bool = False) -> Path:
    """Finds a copy of Ali-CCP; there is no package archive to fetch it from.

    Args:
        data_dir: Data home, or the folder of the files.
        progress: Without effect.

    Returns:
        Folder with the four official files, or with the folders `sample_train` and `sample_test`
        that hold them.

    Raises:
        DatasetError: If there is no complete copy; the message says what to put where.
    """
    del progress
    home = data_home(data_dir)
    files = [_places(stem, part) for stem in (_SKELETON, _COMMON) for part in _PARTS]
    found = find_folder(home, (NAME,), files)
    if found is None:
        raise DatasetError(
            f"no complete copy of {NAME} in {home}: expected {NAME}/ with "
            f"{', '.join(places[0] for places in files)}. Download the training and test samples "
            "from https://tianchi.aliyun.com/dataset/408, unpack them there, "
            f"and let --data-dir or {DATA_HOME_VARIABLE} point to the folder that holds {NAME}/"
        )
    return found


def load_aliccp(
    data_dir: str | Path | None = None,
    *,
    conversion: Literal["ctcvr", "cvr"] = "ctcvr",
    max_length: int = 8,
    max_rows: int | None = None,
    validation: float = 0.1,
) -> LoadedDataset:
    r"""Impressions with the tasks click and purchase, split as the release is.

    A line of `sample_skeleton_train.csv` is an impression: its number, click, conversion, the
    index of its common features, a count, and its own features; a line of
    `common_features_train.csv` is an index, a count and the features that impressions of one user
    share. Features are joined by `\x01` and read field `\x02` id `\x03` weight. The test files are
    alike.

    Field 101 is the user and 205 the item. The user's 121, 122 and 124 to 129 come from the common
    features; the item's 206, 207 and 216, the combinations 508, 509, 702 and 853 and the context
    301 from the impression. Weights and other fields, 210 among them, are left out, as in the
    public code of AITM. Unlike there, the user's history, 109_14, 110_14, 127_14 and 150_14, is
    kept, as sets of ids. A field that a line lacks is missing, and of one that it repeats the last
    id counts.

    Lines with a conversion but no click, which the release should not have, are left out with a
    warning that counts them. The last rows of the training file are the validation part.

    A row takes some 80 bytes of memory, and with history up to 32 + 16 `max_length` more: 20 GB for
    the 85 million rows of the whole release. Set `max_rows` or `max_length` for less.

    Args:
        data_dir: Data home, or the folder of the files.
        conversion: Where purchase is defined: on all rows (`ctcvr`), or on clicked ones (`cvr`).
        max_length: Kept length of the four fields of history, the last ids; 0 leaves them out.
        max_rows: Impressions read from the start of each part; all when `None`.
        validation: Share of the training rows, the last ones, that is held out.

    Returns:
        The log and its split; no history.

    Raises:
        DatasetError: If there is no copy, a file is malformed, or an option is out of range.
    """
    if conversion not in ("ctcvr", "cvr"):
        raise DatasetError(
            f"{NAME}: expected conversion to be 'ctcvr' or 'cvr'; received {conversion!r}"
        )
    if max_length < 0 or (max_rows is not None and max_rows < 1) or not 0 < validation < 1:
        raise DatasetError(
            f"{NAME}: expected max_length >= 0, max_rows >= 1 or None and 0 < validation < 1; "
            f"received {max_length}, {max_rows} and {validation}"
        )
    folder = fetch_aliccp(data_dir)
    train, test = (_read(folder, part, max_length, max_rows) for part in _PARTS)
    held_out = int(train.num_rows * validation)
    if held_out == 0:
        raise DatasetError(
            f"{folder}: {validation:g} of {train.num_rows} training rows are none to validate on: "
            "raise validation or max_rows"
        )
    schema = _schema(conversion, max_length)
    cut = train.num_rows - held_out
    split = Split(
        train=TrainingLog(train.slice(0, cut), schema),
        validation=HeldOutLog(train.slice(cut), schema),
        test=HeldOutLog(test, schema),
    )
    log = InteractionLog(pa.concat_tables([train, test]), schema)
    return LoadedDataset(NAME, log, None, split, LICENCE, CITATION)


def _schema(conversion: str, max_length: int) -> Schema:
    history = [
        Feature(name=_COLUMNS[field], kind="multi_categorical", side="user", max_length=max_length)
        for field in _HISTORY_FIELDS
        if max_length
    ]
    return Schema(
        user="user_id",
        item="item_id",
        tasks=(
            Task(name="click"),
            Task(name="purchase", order=1, parent="click" if conversion == "cvr" else None),
        ),
        features=(
            *(Feature(name=_COLUMNS[field], side="user") for field in _USER_FIELDS[1:]),
            *history,
            *(Feature(name=_COLUMNS[field], side="item") for field in _ROW_FIELDS[1:4]),
            *(Feature(name=_COLUMNS[field]) for field in _ROW_FIELDS[4:]),
        ),
    )


def _places(stem: str, part: str) -> tuple[str, str]:
    return f"{stem}_{part}.csv", f"sample_{part}/{stem}_{part}.csv"


def _path(folder: Path, stem: str, part: str) -> Path:
    flat, nested = (folder / place for place in _places(stem, part))
    return flat if flat.exists() else nested


def _read(folder: Path, part: str, max_length: int, max_rows: int | None) -> pa.Table:
    keys, users = _common_features(_path(folder, _COMMON, part), max_length)
    path = _path(folder, _SKELETON, part)
    tables, read, dropped = [], 0, 0
    for block in _blocks(path, _SKELETON_COLUMNS):
        block = block if max_rows is None else block.slice(0, max_rows - read)
        tables.append(_impressions(path, block, keys, read))
        read += block.num_rows
        dropped += block.num_rows - tables[-1].num_rows
        if read == max_rows:
            break
    if dropped:
        warnings.warn(
            f"{path}: left out {dropped} of {read} rows with a conversion but no click",
            stacklevel=2,
        )
    rows = pa.concat_tables(tables)
    if rows.num_rows == 0:
        raise DatasetError(f"{path}: expected rows with a click or no conversion; received none")
    owners = rows["common"].combine_chunks()
    rows = rows.drop_columns("common")
    for name in users.column_names:
        rows = rows.append_column(name, users[name].take(owners))
    return rows


def _common_features(path: Path, max_length: int) -> tuple[pa.Array, pa.Table]:
    """The indices, and in the same order a column per field of users."""
    keys, tables = [], []
    fields = (*_USER_FIELDS, *(_HISTORY_FIELDS if max_length else ()))
    for block in _blocks(path, _COMMON_COLUMNS):
        owners, codes, ids = _parse(path, block["features"], fields)
        columns = _single_valued(owners, codes, ids, block.num_rows, _USER_FIELDS)
        for code, field in enumerate(fields[len(_USER_FIELDS) :], len(_USER_FIELDS)):
            is_own = codes == code
            columns[_COLUMNS[field]] = _last_values(
                owners[is_own], ids[is_own], block.num_rows, max_length
            )
        keys.append(block["common"])
        tables.append(pa.table(columns))
    # One chunk a column, as rows are taken from all over it.
    users = pa.concat_tables(tables).combine_chunks()
    lacking = users["user_id"].null_count
    if lacking:
        raise DatasetError(
            f"{path}: expected the user, field '101', in every row; received {lacking} rows "
            "without: replace the file"
        )
    return pa.concat_arrays(keys), users


def _impressions(path: Path, block: pa.RecordBatch, keys: pa.Array, read: int) -> pa.Table:
    for name in ("click", "conversion"):
        is_bad = pc.invert(pc.is_in(block[name], value_set=pa.array([0, 1], pa.int8())))
        first = pc.index(is_bad, True).as_py()
        if first >= 0:
            raise DatasetError(
                f"{path}: expected the column {name!r} to be 0 or 1; received "
                f"{block[name][first].as_py()} in row {read + first + 1}: replace the file"
            )
    block = block.filter(pc.greater_equal(block["click"], block["conversion"]))
    owners = pc.index_in(block["common"], value_set=keys)
    if owners.null_count:
        unknown = block["common"].filter(pc.is_null(owners))
        raise DatasetError(
            f"{path}: expected indices of the common features of this part; received "
            f"{unknown[0].as_py()!r} and {len(unknown) - 1} others that are not among them: take "
            "all files from one release"
        )
    parsed = _parse(path, block["features"], _ROW_FIELDS)
    columns = _single_valued(*parsed, block.num_rows, _ROW_FIELDS)
    lacking = columns["item_id"].null_count
    if lacking:
        raise DatasetError(
            f"{path}: expected the item, field '205', in every row; received {lacking} rows "
            f"without, up to row {read + len(block)}: replace the file"
        )
    return pa.table(
        {"common": owners, "click": block["click"], "purchase": block["conversion"], **columns}
    )


def _blocks(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    kinds = {"click": pa.int8(), "conversion": pa.int8()}
    used = [name for name in columns if name not in ("sample", "count")]
    try:
        reader = pa_csv.open_csv(
            path,
            pa_csv.ReadOptions(column_names=list(columns), block_size=_BLOCK_BYTES),
            pa_csv.ParseOptions(quote_char=False),
            pa_csv.ConvertOptions(
                include_columns=used,
                column_types={name: kinds.get(name, pa.string()) for name in used},
            ),
        )
        with reader:
            yield from reader
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"cannot read {path}: {error}; replace the file") from error


def _parse(
    path: Path, features: pa.Array, fields: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, position in `fields` and id of every feature of these fields, in the order read."""
    lists = pc.split_pattern(features, "\x01")
    texts, lengths = lists.flatten(), pc.list_value_length(lists).to_numpy()
    names, rest = _halves(path, texts, "\x02")
    codes = pc.index_in(names, value_set=pa.array(fields))
    is_used = pc.is_valid(codes)
    ids, _ = _halves(path, rest.filter(is_used), "\x03")
    try:
        numbers = ids.cast(pa.int32())
    except pa.ArrowInvalid as error:
        raise DatasetError(
            f"{path}: expected feature ids of at most 31 bits; {error}: replace the file"
        ) from error
    owners = np.repeat(np.arange(len(features)), lengths)[is_used.to_numpy(zero_copy_only=False)]
    return owners, codes.filter(is_used).to_numpy(), numbers.to_numpy()


def _halves(path: Path, texts: pa.Array, separator: str) -> tuple[pa.Array, pa.Array]:
    pairs = pc.split_pattern(texts, separator)
    is_odd = pc.not_equal(pc.list_value_length(pairs), 2)
    first = pc.index(is_odd, True).as_py()
    if first >= 0:
        raise DatasetError(
            f"{path}: expected features as field \\x02 id \\x03 weight; received "
            f"{texts[first].as_py()!r}: replace the file"
        )
    parts = pairs.flatten()
    left = pa.array(np.arange(0, len(parts), 2))
    return parts.take(left), parts.take(pc.add(left, 1))


def _single_valued(
    owners: np.ndarray, codes: np.ndarray, ids: np.ndarray, num_rows: int, fields: Sequence[str]
) -> dict[str, pa.Array]:
    values = np.zeros((len(fields), num_rows), np.int32)
    is_missing = np.ones((len(fields), num_rows), bool)
    is_own = codes < len(fields)
    # Where an index repeats, the last assignment stays.
    values[codes[is_own], owners[is_own]] = ids[is_own]
    is_missing[codes[is_own], owners[is_own]] = False
    return {
        _COLUMNS[field]: pa.array(values[code], mask=is_missing[code])
        for code, field in enumerate(fields)
    }


def _last_values(
    owners: np.ndarray, ids: np.ndarray, num_rows: int, max_length: int
) -> pa.LargeListArray:
    lengths = np.bincount(owners, minlength=num_rows)
    from_end = np.cumsum(lengths)[owners] - np.arange(len(ids))
    kept = np.minimum(lengths, max_length)
    offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    # Rows repeat the lists of their user more often than 32-bit offsets can count.
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(ids[from_end <= max_length]))
