import numpy as np
import pyarrow as pa
import pytest

from tfmtl.data import LogError, with_event_histories

ROWS = {"user": [7, 7, 8, 9], "time": [20, 21, 20, 99]}
# Of user 7 in the order of time: c at 10, then a and d at 20, then b at 30.
EVENTS = {
    "user": [7, 8, 7, 7, 7],
    "time": [20, 25, 10, 30, 20],
    "item": ["a", "x", "c", "b", "d"],
    "stars": [1, 2, 3, 4, 5],
}


def histories(rows=None, events=None, max_length=3, columns=None):
    return with_event_histories(
        pa.table({**ROWS, **(rows or {})}),
        pa.table({**EVENTS, **(events or {})}),
        user="user",
        time="time",
        columns={"seen": "item", "given": "stars"} if columns is None else columns,
        max_length=max_length,
    )


def test_lists_hold_strictly_earlier_events_oldest_first():
    table = histories()
    # User 7 at 20 meets c only, for a and d are not earlier than 20; at 21 it meets all three.
    # User 8's event is later than its row, and user 9 has none.
    assert table["seen"].to_pylist() == [["c"], ["c", "a", "d"], [], []]
    assert table["given"].to_pylist() == [[3], [3, 1, 5], [], []]
    assert table.column_names == ["user", "time", "seen", "given"]


def test_the_latest_events_are_kept():
    assert histories(max_length=2)["seen"].to_pylist() == [["c"], ["a", "d"], [], []]
    assert histories(max_length=1)["given"].to_pylist() == [[3], [5], [], []]


def test_elements_have_the_type_of_the_events():
    stars = pa.array([1, None, 3, 4, None], pa.int8())
    table = histories(events={"stars": stars})
    assert table.schema.field("given").type == pa.large_list(pa.int8())
    assert table["given"].to_pylist() == [[3], [3, 1, None], [], []]


def test_users_may_be_strings_and_missing():
    table = histories(
        rows={"user": ["u7", None, "u8", "u9"], "time": [21, 99, 26, 99]},
        events={"user": ["u7", "u8", "u7", None, "u7"]},
    )
    assert table["seen"].to_pylist() == [["c", "a", "d"], [], ["x"], []]


def test_users_that_were_read_as_floats():
    table = histories(rows={"user": [7.0, np.nan, 8.0, 9.0]}, events={"user": [7, 8, 7, np.nan, 7]})
    assert table["seen"].to_pylist() == [["c"], [], [], []]


def test_without_events_lists_are_empty():
    events = {name: pa.array([], pa.array(values).type) for name, values in EVENTS.items()}
    assert histories(events=events)["seen"].to_pylist() == [[], [], [], []]


def test_clocks_of_one_unit():
    seconds = pa.timestamp("s")
    table = histories(
        rows={"time": pa.array(ROWS["time"], seconds)},
        events={"time": pa.array(EVENTS["time"], seconds)},
    )
    assert table["given"].to_pylist() == [[3], [3, 1, 5], [], []]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("chunks", [1, 3])
def test_nothing_of_the_same_time_or_later_is_seen(seed, chunks):
    random = np.random.default_rng(seed)
    # Few times for many rows, so that most times are shared; every event is one of the rows.
    size, max_length = 300, 5
    log = pa.table(
        {
            "user": random.integers(0, 12, size),
            "time": random.integers(0, 20, size),
            "number": np.arange(size),
        }
    )
    events = log.filter(random.random(size) < 0.6)
    whole = pa.concat_tables([log.slice(i * 100, 100) for i in range(3)]) if chunks == 3 else log
    table = with_event_histories(
        whole,
        events,
        user="user",
        time="time",
        columns={"numbers": "number", "times": "time"},
        max_length=max_length,
    )
    for row in table.to_pylist():
        earlier = [
            event
            for event in events.to_pylist()
            if event["user"] == row["user"] and event["time"] < row["time"]
        ]
        expected = sorted(earlier, key=lambda event: event["time"])[-max_length:]
        assert row["numbers"] == [event["number"] for event in expected]
        assert row["times"] == [event["time"] for event in expected]
    longest = max(map(len, table["numbers"].to_pylist()))
    assert longest == max_length


def test_events_after_a_row_do_not_change_its_list():
    later = {"time": [20, 25, 10, 21, 20]}
    assert histories(events=later)["seen"].to_pylist() == histories()["seen"].to_pylist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 0}, "expected max_length of at least 1; received 0: set it"),
        (
            {"columns": {"seen": "film"}},
            r"expected the columns \['film'\] in events; received \['user', .*'stars'\]: add them",
        ),
        (
            {"columns": {"time": "item"}},
            r"expected names of new columns; received \['time'\], which rows have already",
        ),
        (
            {"rows": {"time": [20, None, 20, 99]}},
            "time column 'time': 1 of 4 values of rows are missing; drop these rows",
        ),
        (
            {"events": {"time": [20.0, np.nan, 10.0, None, 20.0]}},
            "time column 'time': 2 of 5 values of events are missing",
        ),
        (
            {"rows": {"user": ["7", "7", "8", "9"]}},
            "users 'user' are int64 in events and large_string in rows: cast one",
        ),
        (
            {"rows": {"user": [0.5, 7, 8, 9]}},
            "users of rows, column 'user': expected integer or string ids; received .*0.5",
        ),
        (
            {"rows": {"time": [20.0, 21.0, 20.0, 99.0]}},
            "times 'time' are int64 in events and double in rows: cast one",
        ),
        (
            {
                "rows": {"time": pa.array(ROWS["time"], pa.timestamp("ms"))},
                "events": {"time": pa.array(EVENTS["time"], pa.timestamp("s"))},
            },
            r"times 'time' are timestamp\[s\] in events and timestamp\[ms\] in rows: cast one",
        ),
        (
            {"rows": {"time": [{"at": 1}] * 4}},
            "times of rows, column 'time': expected a column of numbers",
        ),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(LogError, match=message):
        histories(**changes)


def test_missing_columns_of_rows_are_named():
    with pytest.raises(LogError, match=r"expected the columns \['when'\] in rows; received"):
        with_event_histories(
            pa.table(ROWS), pa.table(EVENTS), user="user", time="when", columns={}, max_length=1
        )
