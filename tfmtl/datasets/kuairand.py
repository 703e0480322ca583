"""KuaiRand-Pure: impressions of a short-video app with twelve kinds of feedback."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from tfmtl.data.event_histories import with_event_histories
from tfmtl.data.interaction_log import HeldOutLog, InteractionLog, TrainingLog
from tfmtl.data.splits import Split
from tfmtl.datasets.arrow_files import read_table
from tfmtl.datasets.data_home import DATA_HOME_VARIABLE, data_home, find_folder
from tfmtl.datasets.dataset_error import DatasetError
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.schema import Feature, Schema, Side, Task

NAME = "kuairand-pure"
LICENCE = "CC BY-SA 4.0."
CITATION = (
    "C. Gao et al. KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed "
    "Videos. CIKM 2022. doi:10.1145/3511808.3557624"
)
_FOLDERS = (NAME, "KuaiRand-Pure/data", "KuaiRand-Pure", "data")
_USERS, _VIDEOS = "user_features_pure", "video_features_basic_pure"
_FILES = (
    ("log_*.parquet", "log_standard_*.csv"),
    (f"{_USERS}.parquet", f"{_USERS}.csv"),
    (f"{_VIDEOS}.parquet", f"{_VIDEOS}.csv"),
)
_LABELS = ("is_click", "long_view", "is_like", "is_profile_enter")
_UPLOADS_BEFORE = datetime.date(2022, 4, 25)
# Left to itself, a CSV reader takes single tags for numbers and days for dates.
_CONVERSION = pa_csv.ConvertOptions(
    column_types={"tag": pa.string(), "upload_dt": pa.string()}, strings_can_be_null=True
)

Day = str | datetime.date


def _user_features() -> list[Feature]:
    categorical = [
        "user_active_degree",
        "is_live_streamer",
        "is_video_author",
        "follow_user_num_range",
        "fans_user_num_range",
        "friend_user_num_range",
        "register_days_range",
        *(f"onehot_feat{number}" for number in range(18)),
    ]
    counts = ["follow_user_num", "fans_user_num", "friend_user_num", "register_days"]
    return [
        *(Feature(name=name, side="user") for name in categorical),
        *(
            Feature(name=name, kind="numeric", side="user", transform="log", fill=0)
            for name in counts
        ),
    ]


# Left out on purpose: what only the outcome tells (play_time_ms, *_stay_time, the other labels),
# the monthly video statistics (they contain the future), columns that never vary (is_rand,
# is_lowactive_period, visible_status), and duration_ms, which repeats the video's own duration.
SCHEMA = Schema(
    user="user_id",
    item="video_id",
    time="time_ms",
    tasks=tuple(
        Task(name=name, column=column, order=order)
        for order, (name, column) in enumerate(
            zip(("click", "long_view", "like", "profile_enter"), _LABELS, strict=True)
        )
    ),
    features=(
        *_user_features(),
        Feature(name="author_id", side="item", min_count=5),
        Feature(name="music_id", side="item", min_count=5),
        Feature(name="music_type", side="item"),
        Feature(name="video_type", side="item"),
        Feature(name="upload_type", side="item"),
        Feature(name="tag", kind="multi_categorical", side="item", separator=",", max_length=3),
        Feature(name="video_seconds", kind="numeric", side="item", transform="log", fill=0),
        Feature(name="upload_days", kind="numeric", side="item", fill=0),
        Feature(name="tab"),
        Feature(name="hour"),
    ),
)


def fetch_kuairand(data_dir: str | Path | None = None, progress: bool = False) -> Path:
    """Finds a copy of KuaiRand-Pure; there is no package archive to fetch it from.

    Args:
        data_dir: Data home, or the folder of the files.
        progress: Without effect.

    Returns:
        Folder with the log, the user features and the basic video features.

    Raises:
        DatasetError: If there is no complete copy; the message says what to put where.
    """
    home = data_home(data_dir)
    found = find_folder(home, _FOLDERS, _FILES)
    if found is None:
        raise DatasetError(
            f"no complete copy of {NAME} in {home}: expected log_standard_*.csv (or log_*.parquet),"
            f" {_USERS}.csv and {_VIDEOS}.csv (or .parquet). Download KuaiRand-Pure from its "
            "authors (doi:10.1145/3511808.3557624), unpack it, and let --data-dir or "
            f"{DATA_HOME_VARIABLE} point to the folder that holds KuaiRand-Pure/"
        )
    return found


def load_kuairand(
    data_dir: str | Path | None = None,
    *,
    train_from: Day = "2022-04-25",
    validation_from: Day = "2022-05-03",
    test_from: Day = "2022-05-04",
    until: Day = "2022-05-06",
    history_length: int = 0,
    history_of: Literal["positive", "all"] = "positive",
    flows: Sequence[int] = (),
    min_positives: int = 400,
) -> LoadedDataset:
    """KuaiRand-Pure's standard log, split by the day that the log itself assigns.

    Days before `train_from` are history, in two forms that may come together: rows of the log, and
    `history_*.parquet` with one row per user of `watch_seq` (exposed videos in time order),
    `long_watch_seq`, `like_seq` and `last_time_ms`. There a repeated video keeps its number of long
    views and likes, given to its latest exposures; click and profile_enter are undefined; the
    newest exposure is at `last_time_ms` and each older one a millisecond earlier.
    Repeated rows are dropped, and so are rows not later than their user's newest history.

    With `history_length`, two context features tell what the user has met before: `history`, the
    videos, and `history_event`, for each of them 1 + long view + 2 * like, where an undefined label
    counts as 0. They hold rows of the history and of the training part only, strictly earlier than
    the row itself, also for rows that are held out. Rows of the history do not have them.

    With `flows`, every label becomes one task per tab, e.g. `click_tab1`, defined on the rows of
    that tab only. Rows of other tabs are dropped from all parts and from the history; rows of
    `history_*.parquet`, whose tab is unknown, stay and define no task.

    Args:
        data_dir: Data home, or the folder of the official CSV files or of their parquet form.
        train_from: First day of the training part, `YYYY-MM-DD` or a date.
        validation_from: First day of the validation part.
        test_from: First day of the test part.
        until: First day left out after the test part.
        history_length: How many earlier rows a row brings, the latest; 0 leaves them out.
        history_of: `positive` brings rows with a click, a long view or a like, `all` every row.
        flows: Values of `tab` to keep, with tasks of their own each; empty keeps all rows and
            one task per label.
        min_positives: With `flows`, tasks with fewer positive training rows are left out.

    Returns:
        The log, its split and its history (`None` where there is none).

    Raises:
        DatasetError: If there is no copy, days are not in order, a part or a tab of `flows` has no
            rows, no task has `min_positives`, or an option is out of range.
    """
    _check_options(history_length, history_of, flows, min_positives)
    folder = fetch_kuairand(data_dir)
    cuts = _day_numbers(
        train_from=train_from, validation_from=validation_from, test_from=test_from, until=until
    )
    users = _read_entities(folder, _USERS, "user_id", "user")
    videos = _read_entities(folder, _VIDEOS, "video_id", "item")
    rows = _read_log(folder)
    days = rows["date"].to_numpy()
    if flows:
        rows = _rows_of_flows(rows, flows, cuts)
    history = [_rows_of_sequences(path) for path in sorted(folder.glob("history_*.parquet"))]
    for past in history:
        rows = rows.filter(_is_later_than(past, rows))
    parts = np.searchsorted(cuts, rows["date"].to_numpy(), side="right")
    if (parts == 0).any():
        past = rows.filter(parts == 0)
        is_kept = (parts > 0) & _is_later_than(past, rows)
        rows, parts = rows.filter(is_kept), parts[is_kept]
        history.append(past)
    for part, name in ((1, "training"), (2, "validation"), (3, "test")):
        if not (parts == part).any():
            raise DatasetError(
                f"{NAME}: no {name} rows from day {cuts[part - 1]} until before {cuts[part]}; "
                f"the log covers {days.min()} to {days.max()}: set train_from, "
                "validation_from, test_from and until within it"
            )
    rows, parts = rows.filter(parts <= 3), parts[parts <= 3]
    older = pa.concat_tables(history, promote_options="default") if history else None
    schema = SCHEMA
    if flows:
        rows = _with_flow_labels(rows, flows)
        older = None if older is None else _with_flow_labels(older, flows)
        tasks = _flow_tasks(rows.filter(parts == 1), flows, min_positives)
        schema = SCHEMA.model_copy(update={"tasks": tasks})
    older_log = None if older is None else TrainingLog(older, schema, users, videos)
    if history_length:
        known = [rows.filter(parts == 1)] if older is None else [older, rows.filter(parts == 1)]
        rows = with_event_histories(
            rows,
            _events(pa.concat_tables(known, promote_options="default"), history_of),
            user="user_id",
            time="time_ms",
            columns={"history": "video_id", "history_event": "event"},
            max_length=history_length,
        )
        features = (*schema.features, *_history_features(history_length))
        schema = schema.model_copy(update={"features": features})
    split = Split(
        train=TrainingLog(rows.filter(parts == 1), schema, users, videos),
        validation=HeldOutLog(rows.filter(parts == 2), schema, users, videos),
        test=HeldOutLog(rows.filter(parts == 3), schema, users, videos),
    )
    log = InteractionLog(rows, schema, users, videos)
    return LoadedDataset(NAME, log, older_log, split, LICENCE, CITATION)


def _check_options(
    history_length: int, history_of: str, flows: Sequence[int], min_positives: int
) -> None:
    if history_length < 0:
        raise DatasetError(
            f"{NAME}: expected history_length of at least 0; received {history_length}: 0 leaves "
            "the history out"
        )
    if history_of not in ("positive", "all"):
        raise DatasetError(
            f"{NAME}: expected history_of 'positive' or 'all'; received {history_of!r}: set it to "
            "one of them"
        )
    if len(set(flows)) < len(flows):
        raise DatasetError(
            f"{NAME}: expected distinct flows; received {list(flows)}: name each tab once"
        )
    if min_positives < 1:
        raise DatasetError(
            f"{NAME}: expected min_positives of at least 1; received {min_positives}: a task "
            "without positives cannot be learnt"
        )


def _rows_of_flows(rows: pa.Table, flows: Sequence[int], cuts: np.ndarray) -> pa.Table:
    days = rows["date"].to_numpy()
    tabs = rows.filter((days >= cuts[0]) & (days < cuts[1]))["tab"].unique().drop_null()
    missing = sorted(set(flows) - set(tabs.to_pylist()))
    if missing:
        raise DatasetError(
            f"{NAME}: expected flows among the tabs of the training rows, "
            f"{sorted(tabs.to_pylist())}; received {missing} as well: leave these out, or move "
            "train_from and validation_from"
        )
    return rows.filter(pc.is_in(rows["tab"], value_set=pa.array(flows, pa.int64())))


def _with_flow_labels(rows: pa.Table, flows: Sequence[int]) -> pa.Table:
    for task in SCHEMA.tasks:
        for tab in flows:
            label = pc.if_else(
                pc.equal(rows["tab"], tab), rows[task.source], pa.scalar(None, pa.int8())
            )
            rows = rows.append_column(_flow_name(task, tab), label)
    return rows


def _flow_name(task: Task, tab: int) -> str:
    return f"{task.name}_tab{tab}"


def _flow_tasks(train: pa.Table, flows: Sequence[int], min_positives: int) -> tuple[Task, ...]:
    tasks = [
        Task(name=_flow_name(task, tab), order=task.order) for task in SCHEMA.tasks for tab in flows
    ]
    positives = {task.name: pc.sum(train[task.name]).as_py() or 0 for task in tasks}
    chosen = tuple(task for task in tasks if positives[task.name] >= min_positives)
    if not chosen:
        most = max(positives, key=lambda name: positives[name])
        raise DatasetError(
            f"{NAME}: expected a task with min_positives = {min_positives} positive training rows; "
            f"received {positives[most]} at most, of {most!r}: lower min_positives, or name other "
            "flows"
        )
    return chosen


def _events(rows: pa.Table, history_of: str) -> pa.Table:
    click, long_view, like = (
        pc.fill_null(rows[label], 0).to_numpy() for label in ("is_click", "long_view", "is_like")
    )
    events = rows.select(["user_id", "time_ms", "video_id"])
    events = events.append_column("event", pa.array(1 + long_view + 2 * like, pa.int8()))
    return events if history_of == "all" else events.filter(click + long_view + like > 0)


def _history_features(length: int) -> tuple[Feature, ...]:
    return (
        Feature(name="history", kind="sequence", vocabulary="item_id", max_length=length),
        Feature(name="history_event", kind="sequence", max_length=length),
    )


def _day_numbers(**days: Day) -> np.ndarray:
    numbers = []
    for name, day in days.items():
        try:
            parsed = day if isinstance(day, datetime.date) else datetime.date.fromisoformat(day)
        except (TypeError, ValueError) as error:
            raise DatasetError(
                f"{NAME}: expected {name} as YYYY-MM-DD or a date; received {day!r}"
            ) from error
        numbers.append(int(parsed.strftime("%Y%m%d")))
    if numbers != sorted(set(numbers)):
        raise DatasetError(
            f"{NAME}: expected {' < '.join(days)}; received {', '.join(map(str, days.values()))}"
        )
    return np.asarray(numbers)


def _read_entities(folder: Path, stem: str, key: str, side: Side) -> pa.Table:
    path = folder / f"{stem}.parquet"
    path = path if path.exists() else path.with_suffix(".csv")
    raw = {"upload_days": "upload_dt", "video_seconds": "video_duration"}
    features = SCHEMA.features_of(side)
    table = read_table(
        path,
        needed=[key, *(raw.get(feature.source, feature.source) for feature in features)],
        convert_options=_CONVERSION,
    )
    for feature in features:
        # Codes with missing values come as floats from some writers.
        if feature.kind == "categorical" and pa.types.is_floating(table[feature.source].type):
            position = table.column_names.index(feature.source)
            codes = table[feature.source].cast(pa.int64())
            table = table.set_column(position, feature.source, codes)
    return _with_video_columns(table) if side == "item" else table


def _read_log(folder: Path) -> pa.Table:
    paths = sorted(folder.glob("log_*.parquet")) or sorted(folder.glob("log_standard_*.csv"))
    needed = ("user_id", "video_id", "time_ms", "date", "hourmin", "tab", *_LABELS)
    tables = [read_table(path, needed=needed) for path in paths]
    rows = _without_duplicates(pa.concat_tables(tables, promote_options="permissive"))
    return pa.table(
        {
            "user_id": rows["user_id"].cast(pa.int64()),
            "video_id": rows["video_id"].cast(pa.int64()),
            "time_ms": rows["time_ms"].cast(pa.int64()),
            "date": rows["date"].cast(pa.int64()),
            "hour": pc.divide(rows["hourmin"].cast(pa.int64()), 100),
            "tab": rows["tab"].cast(pa.int64()),
            **{label: rows[label].cast(pa.int8()) for label in _LABELS},
        }
    )


def _without_duplicates(table: pa.Table) -> pa.Table:
    numbered = table.append_column("_row", pa.array(np.arange(table.num_rows)))
    first = numbered.group_by(table.column_names).aggregate([("_row", "min")])["_row_min"]
    return table.take(np.sort(first.to_numpy()))


def _with_video_columns(videos: pa.Table) -> pa.Table:
    uploaded = pc.strptime(videos["upload_dt"], format="%Y-%m-%d", unit="s").cast(pa.date32())
    days = pc.days_between(uploaded, pa.scalar(_UPLOADS_BEFORE))
    seconds = pc.divide(videos["video_duration"].cast(pa.float64()), 1000.0)
    return videos.append_column("upload_days", days).append_column("video_seconds", seconds)


def _rows_of_sequences(path: Path) -> pa.Table:
    needed = ("user_id", "last_time_ms", "watch_seq", "long_watch_seq", "like_seq")
    users = read_table(path, needed=needed)
    codes, videos = _flatten(users["watch_seq"])
    lengths = np.bincount(codes, minlength=users.num_rows)
    # Exposures that follow in the same user's sequence.
    after = np.cumsum(lengths)[codes] - 1 - np.arange(len(codes))
    positives = {
        "long_view": _flatten(users["long_watch_seq"]),
        "is_like": _flatten(users["like_seq"]),
    }
    stride = 1 + max(
        values.max(initial=0) for values in (videos, *(v for _, v in positives.values()))
    )
    pairs = codes * stride + videos
    repeats_after = _repeats_after(pairs)
    columns = {
        "user_id": users["user_id"].cast(pa.int64()).to_numpy()[codes],
        "video_id": videos,
        "time_ms": users["last_time_ms"].cast(pa.int64()).to_numpy()[codes] - after,
    }
    for label, (owners, chosen) in positives.items():
        columns[label] = (repeats_after < _count(owners * stride + chosen, pairs)).astype(np.int8)
    nothing = pa.nulls(len(codes))
    undefined = {name: nothing.cast(pa.int8()) for name in ("is_click", "is_profile_enter")}
    context = {name: nothing.cast(pa.int64()) for name in ("date", "hour", "tab")}
    return pa.table({**columns, **undefined, **context})


def _flatten(sequences: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Row number and value of every list element, `int64` each."""
    lists = sequences.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    values = pc.list_flatten(lists).cast(pa.int64()).to_numpy()
    return np.repeat(np.arange(len(lists)), lengths), values


def _repeats_after(pairs: np.ndarray) -> np.ndarray:
    """How often each value occurs again later in the array."""
    order = np.argsort(pairs, kind="stable")
    ends = np.searchsorted(pairs[order], pairs[order], side="right")
    repeats = np.empty(len(pairs), np.int64)
    repeats[order] = ends - 1 - np.arange(len(pairs))
    return repeats


def _count(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How often each wanted value occurs in `values`."""
    ordered = np.sort(values)
    return np.searchsorted(ordered, wanted, side="right") - np.searchsorted(ordered, wanted)


def _is_later_than(history: pa.Table, rows: pa.Table) -> np.ndarray:
    newest = history.group_by("user_id").aggregate([("time_ms", "max")])
    index = pc.index_in(rows["user_id"], value_set=newest["user_id"].combine_chunks())
    bound = pc.fill_null(newest["time_ms_max"].take(index), np.iinfo(np.int64).min)
    return pc.greater(rows["time_ms"], bound).to_numpy()
