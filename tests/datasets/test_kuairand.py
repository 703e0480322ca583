import datetime

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from tfmtl.data import FeatureEncoder, StatisticsConfig
from tfmtl.datasets import DatasetError
from tfmtl.datasets.kuairand import SCHEMA, fetch_kuairand, load_kuairand

_OUTCOMES = ("play_time_ms", "profile_stay_time", "comment_stay_time", "is_follow", "is_hate")


def _log(rows: list[tuple[int, int, int, int, int]]) -> pa.Table:
    """Rows of (user, video, day of the month counted from 1 April, time, click)."""
    users, videos, days, times, clicks = zip(*rows, strict=True)
    first = datetime.date(2022, 4, 1)
    dates = [first + datetime.timedelta(day - 1) for day in days]
    columns = {
        "user_id": users,
        "video_id": videos,
        "date": [int(date.strftime("%Y%m%d")) for date in dates],
        "hourmin": [1700] * len(rows),
        "time_ms": times,
        "is_click": clicks,
        "is_like": [0] * len(rows),
        "long_view": clicks,
        "is_profile_enter": [1] * len(rows),
        "duration_ms": [5000] * len(rows),
        "is_rand": [0] * len(rows),
        "tab": [1] * len(rows),
    }
    return pa.table(columns | {name: [9] * len(rows) for name in _OUTCOMES})


def _users() -> pa.Table:
    text = ["user_active_degree"] + [
        f"{name}_range"
        for name in ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
    ]
    numbers = ["is_lowactive_period", "is_live_streamer", "is_video_author", "follow_user_num"]
    numbers += ["fans_user_num", "friend_user_num", "register_days"]
    numbers += [f"onehot_feat{number}" for number in range(18)]
    columns = {"user_id": [1, 2]} | {name: ["a", "500+"] for name in text}
    columns |= {name: [0, 3] for name in numbers} | {"onehot_feat4": [1.0, None]}
    return pa.table(columns)


def _videos() -> pa.Table:
    return pa.table(
        {
            "video_id": [10, 11, 12],
            "author_id": [7, 8, 7],
            "video_type": ["NORMAL", "AD", "NORMAL"],
            "upload_dt": ["2022-04-09", "2022-04-11", "2022-04-24"],
            "upload_type": ["Web", "Web", "Camera"],
            "visible_status": [0.0, 0.0, 0.0],
            "video_duration": [87500.0, None, 5000.0],
            "music_id": [9155697141, 1, 2],
            "music_type": [9.0, None, 4.0],
            "tag": ["39", "11", None],
        }
    )


# 25 April is day 25; 3 May is day 33.
_ROWS = [
    (1, 10, 25, 1000, 1),  # not later than user 1's history
    (1, 10, 25, 1001, 1),
    (1, 10, 25, 1001, 1),  # repeated
    (2, 11, 32, 900, 0),
    (2, 12, 33, 3300, 0),
    (1, 12, 34, 3400, 1),
    (1, 11, 35, 3500, 0),
    (1, 11, 36, 3600, 1),  # after the test part
]


@pytest.fixture
def parquet_folder(tmp_path):
    rows = _log(_ROWS)
    pq.write_table(rows.slice(0, 3), tmp_path / "log_a.parquet")
    pq.write_table(rows.slice(3), tmp_path / "log_b.parquet")
    pq.write_table(_users(), tmp_path / "user_features_pure.parquet")
    pq.write_table(_videos(), tmp_path / "video_features_basic_pure.parquet")
    return tmp_path


@pytest.fixture
def history_folder(parquet_folder):
    history = pa.table(
        {
            "user_id": [1, 2],
            "history_len": [4, 0],
            "last_time_ms": [1000, 50],
            "watch_seq": pa.array([[10, 11, 10, 10], [12]], pa.list_(pa.int16())),
            # Two of three views of video 10 were long; video 12 was liked by user 2 only, and
            # user 1's like of it lies before the kept exposures.
            "long_watch_seq": pa.array([[10, 10], []], pa.list_(pa.int16())),
            "like_seq": pa.array([[12, 11], [12]], pa.list_(pa.int16())),
        }
    )
    pq.write_table(history, parquet_folder / "history_x.parquet")
    return parquet_folder


# Rows and their tabs; user 1's row on tab 7 would be its newest event.
_ROWS_OF_TABS = [
    (1, 10, 25, 1001, 1, 0),
    (1, 11, 26, 1002, 0, 0),
    (2, 11, 27, 1003, 1, 1),
    (2, 12, 28, 1004, 1, 1),
    (1, 12, 29, 1005, 1, 7),
    (2, 10, 33, 3300, 1, 0),
    (2, 11, 33, 3301, 0, 1),
    (1, 12, 34, 3400, 1, 1),
    (1, 11, 34, 3401, 0, 7),
]


@pytest.fixture
def flow_folder(history_folder):
    (history_folder / "log_b.parquet").unlink()
    rows = _log([row[:5] for row in _ROWS_OF_TABS]).drop_columns(["tab"])
    tabs = pa.array([row[5] for row in _ROWS_OF_TABS])
    pq.write_table(rows.append_column("tab", tabs), history_folder / "log_a.parquet")
    return history_folder


@pytest.fixture
def official_folder(tmp_path):
    data = tmp_path / "official" / "KuaiRand-Pure" / "data"
    data.mkdir(parents=True)
    earlier = [(1, 12, 9, 500, 1), (2, 10, 24, 950, 0)]
    pa_csv.write_csv(_log(earlier), data / "log_standard_4_08_to_4_21_pure.csv")
    pa_csv.write_csv(_log(_ROWS), data / "log_standard_4_22_to_5_08_pure.csv")
    pa_csv.write_csv(_log([(1, 10, 33, 1, 1)]), data / "log_random_4_22_to_5_08_pure.csv")
    pa_csv.write_csv(_users(), data / "user_features_pure.csv")
    pa_csv.write_csv(_videos(), data / "video_features_basic_pure.csv")
    return tmp_path / "official"


def _times(log) -> list[int]:
    return log.times.tolist()


def test_days_decide_the_parts(history_folder):
    dataset = load_kuairand(history_folder)
    split = dataset.split
    assert _times(split.train) == [1001, 900]
    assert _times(split.validation) == [3300]
    assert _times(split.test) == [3400, 3500]
    assert _times(dataset.log) == [1001, 900, 3300, 3400, 3500]


def test_without_history_nothing_is_too_old(parquet_folder):
    dataset = load_kuairand(parquet_folder)
    assert dataset.history is None
    assert _times(dataset.split.train) == [1000, 1001, 900]


def test_sequences_become_rows(history_folder):
    history = load_kuairand(history_folder).history
    assert history.user_ids.tolist() == [1, 1, 1, 1, 2]
    assert history.item_ids.tolist() == [10, 11, 10, 10, 12]
    assert _times(history) == [997, 998, 999, 1000, 50]
    np.testing.assert_array_equal(history.labels("long_view"), [0, 0, 1, 1, 0])
    np.testing.assert_array_equal(history.labels("like"), [0, 1, 0, 0, 1])
    assert np.isnan(history.labels("click")).all()
    assert np.isnan(history.labels("profile_enter")).all()


def test_days_are_parameters(parquet_folder):
    dataset = load_kuairand(
        parquet_folder,
        train_from="2022-05-02",
        validation_from=datetime.date(2022, 5, 4),
        test_from="2022-05-05",
        until="2022-05-07",
    )
    assert _times(dataset.split.train) == [900, 3300]
    assert _times(dataset.split.test) == [3500, 3600]
    assert _times(dataset.history) == [1000, 1001]


def test_sequences_and_earlier_days_come_together_without_overlap(history_folder):
    dataset = load_kuairand(history_folder, train_from="2022-05-02")
    # The row at 1000 is within user 1's sequence already; the one at 1001 is newer.
    assert _times(dataset.history) == [997, 998, 999, 1000, 50, 1001]
    np.testing.assert_array_equal(dataset.history.labels("click")[-2:], [np.nan, 1])
    assert _times(dataset.split.train) == [900]


def test_official_csv_layout(official_folder):
    dataset = load_kuairand(official_folder)
    assert _times(dataset.history) == [500, 950]
    np.testing.assert_array_equal(dataset.history.labels("click"), [1, 0])
    # User 2's row at 900 is not later than its row of 24 April at 950.
    assert _times(dataset.split.train) == [1000, 1001]
    assert _times(dataset.split.test) == [3400, 3500]
    assert fetch_kuairand(official_folder / "KuaiRand-Pure") == (
        official_folder / "KuaiRand-Pure" / "data"
    )


def test_both_layouts_give_the_same_features(parquet_folder, official_folder):
    from_parquet = load_kuairand(parquet_folder).split.test
    from_csv = load_kuairand(official_folder / "KuaiRand-Pure" / "data").split.test
    assert from_parquet.fingerprint() == from_csv.fingerprint()


def test_features(parquet_folder):
    log = load_kuairand(parquet_folder).split.test
    values = {f.name: log.column(f).to_pylist() for f in log.schema.features}
    assert values["video_seconds"] == [5.0, None]
    assert values["upload_days"] == [1, 14]
    assert values["tag"] == [None, "11"]
    assert values["hour"] == [17, 17]
    sources = {feature.source for feature in log.schema.features}
    assert not sources & {*_OUTCOMES, "is_click", "long_view", "is_like", "is_profile_enter"}
    assert not set(log.rows.column_names) & set(_OUTCOMES)
    assert log.schema.task_names == ("click", "long_view", "like", "profile_enter")
    assert [task.order for task in log.schema.tasks] == [0, 1, 2, 3]


def _histories(log) -> list[tuple[list[int], list[int]]]:
    return [(row["history"], row["history_event"]) for row in log.rows.to_pylist()]


def test_histories_hold_earlier_positive_rows(history_folder):
    dataset = load_kuairand(history_folder, history_length=3)
    split = dataset.split
    # User 1 liked 11 (1 + 2), then viewed 10 twice (1 + 1); its first view of 10 was not long.
    # User 2 liked 12.
    assert _histories(split.train) == [([11, 10, 10], [3, 2, 2]), ([12], [3])]
    # User 2's training row has no positive label.
    assert _histories(split.validation) == [([12], [3])]
    # The training row of 10 has come in; the test row at 3400, a click, is never an event.
    assert _histories(split.test) == [([10, 10, 10], [2, 2, 2])] * 2
    assert _histories(dataset.log) == [
        *_histories(split.train),
        *_histories(split.validation),
        *_histories(split.test),
    ]
    assert dataset.history.schema == SCHEMA
    assert "history" not in dataset.history.rows.column_names


def test_histories_of_all_rows(history_folder):
    split = load_kuairand(history_folder, history_length=9, history_of="all").split
    assert _histories(split.train) == [([10, 11, 10, 10], [1, 3, 2, 2]), ([12], [3])]
    assert _histories(split.validation) == [([12, 11], [3, 1])]


def test_histories_without_older_rows(parquet_folder):
    split = load_kuairand(parquet_folder, history_length=2).split
    assert _histories(split.train) == [([], []), ([10], [2]), ([], [])]
    assert _histories(split.test) == [([10, 10], [2, 2])] * 2


def test_without_history_length_nothing_changes(history_folder):
    log = load_kuairand(history_folder).log
    assert log.schema == SCHEMA
    assert not {"history", "history_event"} & set(log.rows.column_names)


def test_flows_make_a_task_of_every_label_and_tab(flow_folder):
    dataset = load_kuairand(flow_folder, flows=(1, 0), min_positives=1)
    split = dataset.split
    # Nobody likes anything; the rows of tab 7 are gone.
    assert [(task.name, task.order) for task in split.train.schema.tasks] == [
        ("click_tab1", 0),
        ("click_tab0", 0),
        ("long_view_tab1", 1),
        ("long_view_tab0", 1),
        ("profile_enter_tab1", 3),
        ("profile_enter_tab0", 3),
    ]
    assert _times(split.train) == [1001, 1002, 1003, 1004]
    assert _times(split.test) == [3400]
    nan = np.nan
    np.testing.assert_array_equal(split.train.labels("click_tab0"), [1, 0, nan, nan])
    np.testing.assert_array_equal(split.train.labels("click_tab1"), [nan, nan, 1, 1])
    np.testing.assert_array_equal(split.validation.labels("profile_enter_tab0"), [1, nan])
    np.testing.assert_array_equal(split.test.labels("profile_enter_tab0"), [nan])
    assert "tab" in [feature.name for feature in split.train.schema.features]
    assert _times(dataset.history) == [997, 998, 999, 1000, 50]
    assert dataset.history.schema.task_names == split.train.schema.task_names
    assert np.isnan(dataset.history.labels("long_view_tab0")).all()


def test_rare_flow_tasks_are_left_out(flow_folder):
    train = load_kuairand(flow_folder, flows=[0, 1], min_positives=2).split.train
    assert train.schema.task_names == (
        "click_tab1",
        "long_view_tab1",
        "profile_enter_tab0",
        "profile_enter_tab1",
    )


def test_older_rows_of_the_log_define_the_tasks_of_their_tab(flow_folder):
    (flow_folder / "history_x.parquet").unlink()
    history = load_kuairand(
        flow_folder, flows=[1, 7], min_positives=1, train_from="2022-04-28"
    ).history
    # Of the rows before 28 April only the one at 1003 is on a tab of the flows.
    assert _times(history) == [1003]
    np.testing.assert_array_equal(history.labels("click_tab1"), [1])
    np.testing.assert_array_equal(history.labels("click_tab7"), [np.nan])


def test_flows_histories_and_statistics_go_together(flow_folder):
    dataset = load_kuairand(flow_folder, flows=[0, 1], min_positives=1, history_length=2)
    train = dataset.split.train
    # User 1's row on tab 7 would have been the latest event of the test row.
    assert _histories(dataset.split.test) == [([10, 10], [2, 2])]
    config = StatisticsConfig(entities=["user_id", "item_id"], prior=2)
    encoder = FeatureEncoder.fit(train, dataset.history, config)
    encoded = encoder.encode(train)
    np.testing.assert_array_equal(encoded.weights["click_tab1"], [0, 0, 1, 1])
    # Videos 10, 11 and 12 are 1, 2 and 3; the codes 2 and 3 are 1 and 2.
    np.testing.assert_array_equal(encoded.features["history"][1:3], [[1, 1], [3, 0]])
    np.testing.assert_array_equal(encoded.features["history_event"][1:3], [[1, 1], [2, 0]])
    statistics = encoder.statistics
    columns = encoded.features["statistics"] * statistics.std + statistics.mean
    rate = columns[:, statistics.names.index("user_id_click_tab0_rate")]
    # The history defines no task and user 2 has no row on tab 0. User 1's second row comes after
    # 1 positive of 1: g = (1 + 0.5) / (1 + 1) = 3/4 and (1 + 2 g) / (1 + 2) = 5/6, so that the
    # lift is log 5 - log 3.
    np.testing.assert_allclose(rate, [0, np.log(5 / 3), 0, 0], atol=1e-6)
    for part in (dataset.split.validation, dataset.split.test):
        assert np.isfinite(encoder.encode(part).features["statistics"]).all()


def test_histories_of_rows_that_move_into_training_are_empty(flow_folder):
    dataset = load_kuairand(flow_folder, flows=[0, 1], min_positives=1, history_length=2)
    train = dataset.with_history_in_training().split.train
    assert _times(train) == [50, 997, 998, 999, 1000, 1001, 1002, 1003, 1004]
    encoded = FeatureEncoder.fit(train).encode(train)
    assert (encoded.features["history"][:5] == 0).all()
    np.testing.assert_array_equal(encoded.features["history"][5:7], [[1, 1], [1, 1]])
    np.testing.assert_array_equal(encoded.weights["click_tab0"], [0] * 5 + [1, 1, 0, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history_length": -1}, "history_length of at least 0; received -1: 0 leaves"),
        ({"history_of": "liked"}, "history_of 'positive' or 'all'; received 'liked'"),
        ({"flows": [1, 1]}, r"expected distinct flows; received \[1, 1\]: name each tab once"),
        ({"flows": [1], "min_positives": 0}, "min_positives of at least 1; received 0"),
        (
            {"flows": [1, 5, 4]},
            r"flows among the tabs of the training rows, \[0, 1, 7\]; received \[4, 5\] as well",
        ),
        (
            {"flows": [0, 1], "min_positives": 3},
            "min_positives = 3 positive training rows; received 2 at most, of 'click_tab1': lower",
        ),
    ],
)
def test_bad_options_of_histories_and_flows(flow_folder, options, message):
    with pytest.raises(DatasetError, match=message):
        load_kuairand(flow_folder, **options)


def test_missing_copy_says_what_to_put_where(tmp_path):
    with pytest.raises(DatasetError, match=r"no complete copy of kuairand-pure in .*--data-dir"):
        load_kuairand(tmp_path)


def test_missing_column_names_the_file(parquet_folder):
    pq.write_table(
        _videos().drop_columns(["tag"]), parquet_folder / "video_features_basic_pure.parquet"
    )
    message = r"video_features_basic_pure\.parquet: expected the columns \['tag'\]"
    with pytest.raises(DatasetError, match=message):
        load_kuairand(parquet_folder)


def test_empty_part_names_the_days(parquet_folder):
    message = (
        r"no test rows from day 20220507 until before 20220508; .* covers 20220425 to 20220506"
    )
    with pytest.raises(DatasetError, match=message):
        load_kuairand(parquet_folder, test_from="2022-05-07", until="2022-05-08")


def test_bad_days(parquet_folder):
    with pytest.raises(DatasetError, match="expected until as YYYY-MM-DD or a date; received 9"):
        load_kuairand(parquet_folder, until=9)
    message = "expected train_from < validation_from < test_from < until; received 2022-05-03"
    with pytest.raises(DatasetError, match=message):
        load_kuairand(parquet_folder, train_from="2022-05-03")
