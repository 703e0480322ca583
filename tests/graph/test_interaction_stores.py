import numpy as np
import pytest

from tfmtl.graph import interaction_stores
from tfmtl.graph.interaction_stores import behavior_dtype


def stored_edges(store):
    rows = np.repeat(np.arange(store.num_rows), store.degrees)
    return list(zip(rows, store.indices, store.data["behavior"], strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_dictionary_of_pairs(seed):
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, 12, 150), rng.integers(0, 9, 150)
    behaviors = rng.integers(0, 8, 150).astype(np.uint8)
    expected = {}
    for user, item, bits in zip(users.tolist(), items.tolist(), behaviors.tolist(), strict=True):
        if user and item:
            expected[user, item] = expected.get((user, item), 0) | bits
    assert len(expected) < 100
    item_user, user_item = interaction_stores(users, items, behaviors, 12, 9)
    assert stored_edges(item_user) == [(*pair, expected[pair]) for pair in sorted(expected)]
    swapped = {(item, user): bits for (user, item), bits in expected.items()}
    assert stored_edges(user_item) == [(*pair, swapped[pair]) for pair in sorted(swapped)]
    assert item_user.data["behavior"].dtype == user_item.data["behavior"].dtype == np.uint8


def test_the_columns_stay_as_they_were():
    users, items = np.array([2, 1, 2], np.int32), np.array([1, 1, 1], np.int32)
    behaviors = np.array([1, 2, 4], np.uint8)
    interaction_stores(users, items, behaviors, 3, 2)
    assert users.tolist() == [2, 1, 2]
    assert behaviors.tolist() == [1, 2, 4]


def test_times_keep_every_row():
    item_user, user_item = interaction_stores(
        np.array([1, 1, 0, 2]),
        np.array([3, 3, 3, 3]),
        np.array([1, 2, 1, 4], np.uint8),
        3,
        4,
        times=np.array([9, 5, 1, 7]),
    )
    # The unknown user makes no edge.
    assert item_user.data["time"].tolist() == [5, 9, 7]
    assert item_user.data["time"].dtype == np.int32
    assert user_item.indices.tolist() == [1, 2, 1]
    assert user_item.data["behavior"].tolist() == [2, 4, 1]


def test_times_that_need_64_bits_keep_them():
    one = np.array([1])
    times = np.array([2**31])
    item_user, _ = interaction_stores(one, one, one.astype(np.uint8), 2, 2, times=times)
    assert item_user.data["time"].dtype == np.int64
    assert item_user.data["time"].tolist() == [2**31]


def test_no_interactions():
    none = np.zeros(0, np.int32)
    item_user, user_item = interaction_stores(none, none, none.astype(np.uint8), 3, 2)
    assert item_user.degrees.tolist() == [0, 0, 0]
    assert user_item.degrees.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("num_tasks", "dtype"),
    [(1, "uint8"), (8, "uint8"), (9, "uint16"), (16, "uint16"), (17, "uint32"), (31, "uint32")],
)
def test_the_fewest_bits_that_hold_the_tasks(num_tasks, dtype):
    assert behavior_dtype(num_tasks) == dtype


def test_refuses_columns_that_do_not_fit():
    two, bits = np.array([1, 2]), np.array([1, 1], np.uint8)
    with pytest.raises(ValueError, match=r"expected items of shape \[2\].*received shape \[1\]"):
        interaction_stores(two, two[:1], bits, 3, 3)
    with pytest.raises(ValueError, match=r"expected times of shape \[2\].*received shape \[3\]"):
        interaction_stores(two, two, bits, 3, 3, times=np.arange(3))
    with pytest.raises(ValueError, match="expected behaviors as integers of at most 32 bits"):
        interaction_stores(two, two, two, 3, 3)
    with pytest.raises(ValueError, match="expected users as integers of any width; received float"):
        interaction_stores(two.astype(float), two, bits, 3, 3)
    with pytest.raises(ValueError, match=r"expected rows in \[0, 2\); received \[1, 2\]"):
        interaction_stores(two, two, bits, 2, 3)
    with pytest.raises(ValueError, match=r"expected columns in \[0, 3\); received \[-1, 1\]"):
        interaction_stores(two, np.array([1, -1]), bits, 3, 3)


def test_merged_rows_of_a_pair_keep_the_latest_time():
    users, items = np.array([1, 2, 1, 1, 0, 1]), np.array([3, 3, 3, 2, 3, 3])
    bits, times = np.array([1, 1, 2, 4, 1, 1], np.uint8), np.array([9, -4, 30, 7, 99, 12])
    item_user, user_item = interaction_stores(users, items, bits, 3, 4, times=times, merge=True)
    assert stored_edges(item_user) == [(1, 2, 4), (1, 3, 3), (2, 3, 1)]
    assert item_user.data["time"].tolist() == [7, 30, -4]
    assert (item_user.order, item_user.data["time"].dtype) == ("column", np.int32)
    # Item 3 met user 1 last at 30 and user 2 at -4; the transpose takes times along.
    assert stored_edges(user_item) == [(2, 1, 4), (3, 1, 3), (3, 2, 1)]
    assert user_item.data["time"].tolist() == [7, 30, -4]
    assert times.tolist() == [9, -4, 30, 7, 99, 12]


@pytest.mark.parametrize("seed", range(3))
def test_merging_with_times_equals_a_dictionary_of_pairs(seed):
    rng = np.random.default_rng(seed)
    users, items = rng.integers(1, 12, 200), rng.integers(1, 9, 200)
    bits, times = rng.integers(1, 8, 200).astype(np.uint8), rng.integers(-50, 50, 200)
    latest = {}
    for user, item, time in zip(users.tolist(), items.tolist(), times.tolist(), strict=True):
        latest[user, item] = max(time, latest.get((user, item), -99))
    timed, _ = interaction_stores(users, items, bits, 12, 9, times=times, merge=True)
    untimed, _ = interaction_stores(users, items, bits, 12, 9)
    assert stored_edges(timed) == stored_edges(untimed)
    assert timed.data["time"].tolist() == [latest[pair] for pair in sorted(latest)]


def test_merging_without_times_or_rows():
    one, bits = np.array([1, 1]), np.array([1, 2], np.uint8)
    merged, _ = interaction_stores(one, one, bits, 2, 2, merge=True)
    assert stored_edges(merged) == [(1, 1, 3)]
    assert list(merged.data) == ["behavior"]
    none = one[:0]
    empty, _ = interaction_stores(none, none, bits[:0], 3, 2, times=none, merge=True)
    assert empty.data["time"].tolist() == []
    assert empty.degrees.tolist() == [0, 0, 0]
