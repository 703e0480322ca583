import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from tfmtl.data import HeldOutLog, InteractionLog, LogError, TrainingLog, require_training
from tfmtl.schema import Feature, Schema, SchemaError, Task

NAN = np.nan
ONE_TASK = Schema(tasks=[Task(name="click")], user=None, item=None)


def labels_of(column, **task):
    schema = Schema(tasks=[Task(name="click", **task)], user=None, item=None)
    return InteractionLog(pa.table({"click": column}), schema).labels("click")


def test_ids_and_times_are_plain_numpy(log):
    assert len(log) == 6
    assert log.user_ids.dtype == np.int64
    assert_array_equal(log.user_ids, [3, 3, 8, 8, 3, 5])
    assert log.item_ids.tolist() == ["b", "a", "b", "c", "c", "a"]
    assert_array_equal(log.times, [10, 20, 20, 30, 40, 50])


def test_a_log_without_ids_and_times():
    log = InteractionLog(pa.table({"click": [1]}), ONE_TASK)
    assert log.user_ids is None
    assert log.item_ids is None
    assert log.times is None


def test_labels_are_undefined_off_the_parents_positives_and_where_missing(log):
    assert log.labels("click").dtype == np.float32
    assert_array_equal(log.labels("click"), [1, 0, 1, 1, 0, 1])
    # click is 0 in rows 1 and 4; of the others, stars are 5, 3, 4, 5.
    assert_array_equal(log.labels("like"), [1, NAN, 0, 1, NAN, 1])


def test_a_grandchild_is_undefined_where_its_parent_is():
    schema = Schema(
        tasks=[Task(name="a"), Task(name="b", parent="a"), Task(name="c", parent="b")],
        user=None,
        item=None,
    )
    rows = pa.table({"a": [1, 1, 0, 1], "b": [1, 0, 1, 1], "c": [1, 1, 1, 0]})
    assert_array_equal(InteractionLog(rows, schema).labels("c"), [1, NAN, NAN, 0])


@pytest.mark.parametrize(
    "column", [[True, None, False], [1, None, 0], [1.0, NAN, 0.0], pa.array([1, None, 0], "int8")]
)
def test_labels_from_booleans_integers_and_floats(column):
    assert_array_equal(labels_of(column), [1, NAN, 0])


def test_labels_from_strings():
    rule = {"operator": "==", "value": "50000+."}
    assert_array_equal(labels_of(["50000+.", "- 50000.", None], positive=rule), [1, 0, NAN])


def test_a_column_of_nulls_is_undefined_everywhere():
    assert_array_equal(labels_of(pa.nulls(2)), [NAN, NAN])


def test_label_outside_zero_and_one_names_value_count_and_remedy():
    with pytest.raises(
        LogError, match=r"'click': column 'click' holds 3 .* in 2 of 4 rows: give .* positive rule"
    ):
        labels_of([0, 3, 1, 5])


def test_string_labels_need_a_string_rule():
    with pytest.raises(LogError, match=r"holds strings such as 'yes'.*positive rule with a string"):
        labels_of(["yes", "no"])
    with pytest.raises(LogError, match=r"compares with 'yes', but column 'click' holds numbers"):
        labels_of([1, 0], positive={"operator": "==", "value": "yes"})


def test_list_labels_are_refused():
    with pytest.raises(LogError, match="column 'click' holds lists; expected one value a row"):
        labels_of([[1], [0]])


def test_unknown_task_is_named(log):
    with pytest.raises(SchemaError, match="no task 'buy'"):
        log.labels("buy")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("uid", r"user of the schema: expected one column 'uid' in the log.*columns of the log"),
        ("ts", r"time of the schema: expected one column 'ts'"),
        ("stars", r"task 'like': expected one column 'stars'"),
        ("tab", r"feature 'tab': expected one column 'tab'.*\['uid', 'vid'.*Name an existing"),
    ],
)
def test_missing_column_names_itself_and_those_that_exist(log, missing, message):
    with pytest.raises(LogError, match=message):
        InteractionLog(log.rows.drop_columns([missing]), log.schema, log.users, log.items)


def test_missing_entity_feature_names_both_tables(build):
    with pytest.raises(LogError, match=r"feature 'age': no column 'age'.*'users': \['uid'\]"):
        build(users={"uid": [3]})
    with pytest.raises(LogError, match=r"feature 'age': no column 'age'; columns: \{'the log'"):
        build(users=None)


def test_column_that_occurs_twice_is_refused(log):
    twice = log.rows.append_column("click", log.rows["click"])
    with pytest.raises(LogError, match="column 'click' in the log, but it occurs 2 times"):
        InteractionLog(twice, log.schema, log.users, log.items)


def test_empty_log_is_refused(log):
    with pytest.raises(LogError, match="expected a log of at least one row; received an empty one"):
        InteractionLog(log.rows.slice(0, 0), log.schema, log.users, log.items)
    with pytest.raises(LogError, match="received an empty one"):
        log.select(log.user_ids == 99)


def test_repeated_entity_key_is_refused(build):
    with pytest.raises(LogError, match=r"users holds 1 keys more than once, e\.g\. uid = 5"):
        build(users={"uid": [5, 3, 5], "age": [1.0, 2.0, 3.0]})


def test_null_ids_and_times_are_refused(build):
    with pytest.raises(LogError, match=r"user ids of the log, column 'uid': 1 of 6 values are mis"):
        build({"uid": [3, 3, None, 8, 3, 5]})
    with pytest.raises(LogError, match=r"keys of users, column 'uid': 1 of 2 values are missing"):
        build(users={"uid": [3, None], "age": [1.0, 2.0]})
    with pytest.raises(LogError, match=r"time column 'ts': 2 of 6 values are missing"):
        build({"ts": [1.0, NAN, 3.0, None, 5.0, 6.0]})


def test_ids_and_times_of_the_wrong_type_are_refused(build):
    with pytest.raises(LogError, match=r"user ids of the log, column 'uid': expected integer or"):
        build({"uid": [0.5] * 6})
    with pytest.raises(LogError, match=r"time column 'ts' is string; expected integers, floats"):
        build({"ts": ["10"] * 6})
    with pytest.raises(LogError, match=r"user ids 'uid' are int64 in the log and large_string in"):
        build(users={"uid": ["3"], "age": [1.0]})


def test_tables_without_ids_in_the_schema_are_refused():
    with pytest.raises(LogError, match="the schema names no id columns"):
        InteractionLog(pa.table({"click": [1]}), ONE_TASK, users=pa.table({"uid": [1]}))


def test_columns_join_their_table_and_miss_where_the_entity_does(log):
    age, genre, _, tab, _ = log.schema.features
    assert log.column(age).to_pylist() == [30.0, 30.0, None, None, 30.0, 50.0]
    assert log.column(genre).to_pylist() == ["drama", "", "drama", "war|drama", "war|drama", ""]
    assert log.column(tab).to_pylist() == ["x", "y", "x", None, "z", "x"]


def test_side_feature_may_live_in_the_rows(build):
    log = build({"age": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}, users=None)
    assert log.column(log.schema.features[0]).to_pylist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_select_keeps_type_tables_and_order(build):
    log = build(kind=TrainingLog)
    chosen = log.select(np.array([4, 0]))
    assert isinstance(chosen, TrainingLog)
    assert chosen.users is log.users
    assert_array_equal(chosen.times, [40, 10])
    assert_array_equal(log.select(log.user_ids == 8).times, [20, 30])


def test_fingerprint_is_of_the_content(log, build):
    chunked = InteractionLog(
        pa.concat_tables([log.rows.slice(0, 2), log.rows.slice(2)]).append_column(
            "unused", pa.nulls(6)
        ),
        log.schema,
        log.users,
        log.items,
    )
    assert chunked.fingerprint() == log.fingerprint()
    assert build(kind=TrainingLog).fingerprint() == log.fingerprint()
    assert build({"click": [1, 0, 1, 1, 0, 0]}).fingerprint() != log.fingerprint()
    other_ages = {"uid": [5, 3, 9], "age": [50.0, 30.0, 91.0]}
    assert build(users=other_ages).fingerprint() != log.fingerprint()
    assert log.select(np.arange(6)[::-1]).fingerprint() != log.fingerprint()


def test_only_training_logs_may_be_counted(build):
    require_training(build(kind=TrainingLog), "counting")
    for kind in (InteractionLog, HeldOutLog):
        with pytest.raises(
            TypeError, match=rf"counting needs a TrainingLog; received {kind.__name__}: split the"
        ):
            require_training(build(kind=kind), "counting")


def test_context_features_come_from_the_rows_only():
    schema = Schema(tasks=[Task(name="click")], features=[Feature(name="tab")])
    rows = pa.table({"user_id": [1], "item_id": [2], "click": [1]})
    with pytest.raises(LogError, match="feature 'tab': expected one column 'tab' in the log"):
        InteractionLog(rows, schema, users=pa.table({"user_id": [1], "tab": [3]}))
