import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from tfmtl.data import (
    HeldOutLog,
    InteractionLog,
    LogError,
    Split,
    TrainingLog,
    split_by_time,
    split_leave_one_out,
    split_per_user_by_time,
    split_random,
)
from tfmtl.schema import Schema, Task

SCHEMA = Schema(tasks=[Task(name="click")], time="ts")


def make(users, times, schema=SCHEMA):
    n = len(users)
    rows = {"user_id": users, "item_id": list(range(n)), "ts": times, "click": [1] * n}
    return InteractionLog(pa.table(rows), schema)


def parts(split):
    return [part.item_ids.tolist() for part in (split.train, split.validation, split.test)]


def test_parts_carry_their_type():
    split = split_by_time(make([1, 1, 1], [1, 2, 3]), 2, 3)
    assert isinstance(split.train, TrainingLog)
    assert isinstance(split.validation, HeldOutLog)
    assert isinstance(split.test, HeldOutLog)
    with pytest.raises(TypeError, match="train: expected a TrainingLog; received HeldOutLog"):
        Split(train=split.test, validation=split.validation, test=split.test)


def test_by_time_cuts_are_lower_bounds_and_until_drops():
    log = make([1] * 6, [40, 10, 20, 30, 19, 50])
    assert parts(split_by_time(log, 20, 30, until=50)) == [[1, 4], [2], [0, 3]]
    assert parts(split_by_time(log, 20, 30)) == [[1, 4], [2], [0, 3, 5]]


def test_by_time_refuses_cuts_out_of_order_and_empty_parts():
    log = make([1, 1, 1], [10, 20, 30])
    with pytest.raises(LogError, match=r"validation_from < test_from < until; received 30, 20"):
        split_by_time(log, 30, 20)
    with pytest.raises(LogError, match=r"test part is empty .*\[2, 1, 0\] of 3 rows"):
        split_by_time(log, 30, 40)


def test_by_time_needs_times():
    with pytest.raises(LogError, match=r"split_by_time needs times.*or use split_random"):
        split_by_time(make([1], [1], SCHEMA.model_copy(update={"time": None})), 1, 2)


def test_per_user_holds_out_each_users_latest_rows():
    # User 7 has items 0..4 at times 5, 1, 4, 2, 3; user 2 has items 5..7 at time 9.
    log = make([7] * 5 + [2] * 3, [5, 1, 4, 2, 3, 9, 9, 9])
    # 0.4 of 5 rows is 2 test and 0.2 is 1 validation; 0.4 of 3 is 1 test and 0 validation.
    # Equal times keep the order of the log, so item 7 is the last of user 2.
    assert parts(split_per_user_by_time(log, validation=0.2, test=0.4)) == [
        [1, 3, 5, 6],
        [4],
        [0, 2, 7],
    ]


def test_per_user_shares_do_not_lose_rows_to_rounding():
    split = split_per_user_by_time(make([1] * 100, list(range(100))), validation=0.29, test=0.29)
    assert [len(split.train), len(split.validation), len(split.test)] == [42, 29, 29]


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.1, -0.1), (0.5, 0.5)])
def test_shares_out_of_range_are_refused(shares):
    with pytest.raises(LogError, match=rf"received {shares[0]} and {shares[1]}"):
        split_random(make([1] * 4, [1] * 4), *shares)


def test_random_is_a_seeded_partition_in_log_order():
    log = make([1] * 40, [0] * 40)
    train, validation, test = parts(split_random(log, 0.25, 0.1, seed=3))
    assert [len(train), len(validation), len(test)] == [26, 10, 4]
    assert sorted(train + validation + test) == list(range(40))
    assert train == sorted(train)
    assert parts(split_random(log, 0.25, 0.1, seed=3)) == [train, validation, test]
    assert parts(split_random(log, 0.25, 0.1, seed=4)) != [train, validation, test]


def test_leave_one_out_spares_short_users():
    log = make([7, 7, 2, 7, 2], [30, 10, 1, 20, 2])
    assert parts(split_leave_one_out(log)) == [[1, 2, 4], [3], [0]]


def test_leave_one_out_without_times_takes_the_order_of_the_log():
    log = make([7, 7, 7], [3, 2, 1], SCHEMA.model_copy(update={"time": None}))
    assert parts(split_leave_one_out(log)) == [[0], [1], [2]]


def test_users_are_needed_where_rows_are_held_out_per_user():
    schema = Schema(tasks=[Task(name="click")], user=None, item=None, time="ts")
    log = InteractionLog(pa.table({"ts": [1], "click": [1]}), schema)
    with pytest.raises(LogError, match="this needs user ids; received a log without"):
        split_leave_one_out(log)


def test_held_out_rows_never_become_training_rows():
    held_out = split_by_time(make([1] * 3, [1, 2, 3]), 2, 3).test
    with pytest.raises(TypeError, match="received a HeldOutLog: its rows may not become training"):
        split_random(held_out)


def test_parts_keep_the_feature_tables():
    log = make([1] * 3, [1, 2, 3])
    users = pa.table({"user_id": [1]})
    log = InteractionLog(log.rows, log.schema, users=users)
    split = split_by_time(log, 2, 3)
    assert split.train.users is users
    assert split.test.users is users
    assert_array_equal(split.test.times, np.array([3]))
