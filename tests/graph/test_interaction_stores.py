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
