import numpy as np
import pytest

from tests.graph.macro_logs import BLOCKS, block_rows, random_stores
from tfmtl.graph import MacroConfig, interaction_stores
from tfmtl.graph.macro_groups import PreviousGroups, group_nodes

SCORES = np.array([0, 1, 2, 3], np.float32)
ALL_ACTIVE = {"activity": "value", "user_threshold": 0, "item_threshold": 0}
THREE = MacroConfig(user_nodes=3, item_nodes=3, **ALL_ACTIVE)


def block_stores():
    """Users 1 to 24 and items 1 to 18; node n belongs to block (n - 1) mod 3."""
    rows = block_rows()
    liked = rows["click"] == 1
    bits = (1 + rows["buy"])[liked].astype(np.uint8)
    return interaction_stores(rows["u"][liked] - 99, rows["v"][liked] - 499, bits, 25, 19)


def blocks_of(count):
    return np.concatenate([[0], 1 + np.arange(count - 1) % BLOCKS])


def assert_same_partition(numbers, expected):
    pairs = set(zip(numbers.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == len(set(numbers.tolist())) == len(set(expected.tolist()))


@pytest.mark.parametrize("cluster_users_on", ["neighborhoods", "item_groups"])
def test_finds_blocks(cluster_users_on):
    config = THREE.model_copy(update={"cluster_users_on": cluster_users_on})
    users, items = group_nodes(*block_stores(), SCORES, config)
    assert (users.numbers[0], items.numbers[0]) == (0, 0)
    assert_same_partition(users.numbers, blocks_of(25))
    assert_same_partition(items.numbers, blocks_of(19))
    assert (users.count, items.count) == (3, 3)
    assert users.weights[1:].all()


def test_inactive_nodes_are_grouped_too():
    config = THREE.model_copy(update={"user_threshold": 5, "item_threshold": 7})
    item_user, user_item = block_stores()
    users, items = group_nodes(item_user, user_item, SCORES, config)
    # A user's sum is 5: three clicks of 1 and one of 2; those of items differ.
    assert users.weights.tolist() == [0] + [1] * 24
    sums = [
        SCORES[user_item.data["behavior"][a:b]].sum()
        for a, b in zip(user_item.indptr[:-1], user_item.indptr[1:], strict=True)
    ]
    assert items.weights.tolist() == [float(total >= 7) for total in sums]
    assert 0 < items.weights[1:].mean() < 1
    assert_same_partition(items.numbers, blocks_of(19))


def test_nodes_without_edges_belong_to_no_group():
    stores = interaction_stores(
        np.array([1, 4]), np.array([2, 5]), np.array([1, 2], np.uint8), 7, 6
    )
    config = MacroConfig(user_nodes=2, item_nodes=2)
    users, items = group_nodes(*stores, SCORES, config)
    assert sorted(np.flatnonzero(users.numbers)) == [1, 4]
    assert sorted(np.flatnonzero(items.numbers)) == [2, 5]
    # Of sums 1 and 2 the quantile 0.2 is 1, which both reach.
    assert np.flatnonzero(users.weights).tolist() == [1, 4]


def test_the_seed_makes_the_numbers():
    first, again = (group_nodes(*block_stores(), SCORES, THREE)[0] for _ in "ab")
    np.testing.assert_array_equal(first.numbers, again.numbers)


def test_categories_are_the_macro_items():
    categories = np.array([0] + [1, 5, 2] * 6, np.int64)
    users, items = group_nodes(*block_stores(), SCORES, THREE, item_categories=categories)
    assert items.numbers.tolist() == categories.tolist()
    assert items.numbers.dtype == np.int32
    # Categories 3 and 4 have no items and keep their numbers.
    assert items.count == 5
    assert_same_partition(users.numbers, blocks_of(25))


def test_users_are_clustered_on_their_sums_over_categories():
    # Users 1 and 2 share no item, but items 1 and 2 are of category 1; user 3 likes category 2.
    stores = interaction_stores(
        np.array([1, 2, 3]), np.array([1, 2, 3]), np.array([1, 1, 1], np.uint8), 4, 4
    )
    config = MacroConfig(user_nodes=2, cluster_users_on="item_groups")
    users, _ = group_nodes(*stores, SCORES, config, item_categories=np.array([0, 1, 1, 2]))
    assert users.numbers[1] == users.numbers[2] != users.numbers[3]


def test_items_of_category_0_are_the_padding_group():
    stores = interaction_stores(
        np.array([1, 2]), np.array([1, 2]), np.array([1, 1], np.uint8), 3, 3
    )
    config = MacroConfig(user_nodes=1, cluster_users_on="item_groups")
    users, items = group_nodes(*stores, SCORES, config, item_categories=np.array([0, 0, 1]))
    assert items.numbers.tolist() == [0, 0, 1]
    # Its item has no category, yet user 1 has an edge.
    assert users.numbers.tolist() == [0, 1, 1]


def test_an_empty_cluster_keeps_its_number():
    # All three users have the same neighbourhood: two of the three centres are nobody's nearest.
    stores = interaction_stores(
        np.array([1, 2, 3]), np.array([1, 1, 1]), np.array([1, 1, 1], np.uint8), 4, 2
    )
    users, _ = group_nodes(*stores, SCORES, MacroConfig(user_nodes=3, item_nodes=1))
    assert users.count == 3
    assert len(set(users.numbers[1:].tolist())) == 1


def test_new_nodes_join_the_group_whose_centre_is_nearest():
    users, items = blocks_of(25), blocks_of(19)
    users[[4, 23]], items[7] = 0, 0
    previous = PreviousGroups(users.astype(np.int32), items.astype(np.int32), regroup=False)
    of_users, of_items = group_nodes(*block_stores(), SCORES, THREE, previous=previous)
    np.testing.assert_array_equal(of_users.numbers, blocks_of(25))
    np.testing.assert_array_equal(of_items.numbers, blocks_of(19))


def test_known_nodes_stay_even_where_they_fit_badly():
    shifted = np.roll(blocks_of(25)[1:], 1)
    users = np.concatenate([[0], shifted]).astype(np.int32)
    previous = PreviousGroups(users, blocks_of(19).astype(np.int32), regroup=False)
    of_users, _ = group_nodes(*block_stores(), SCORES, THREE, previous=previous)
    np.testing.assert_array_equal(of_users.numbers, users)


def test_regrouped_nodes_take_the_numbers_that_their_group_had():
    users = np.array([0, 3, 1, 2])[blocks_of(25)].astype(np.int32)
    items = np.array([0, 2, 3, 1])[blocks_of(19)].astype(np.int32)
    # A known node in a wrong group moves.
    users[5] = users[1]
    for seed in range(3):
        of_users, of_items = group_nodes(
            *block_stores(),
            SCORES,
            THREE.model_copy(update={"seed": seed}),
            previous=PreviousGroups(users, items),
        )
        np.testing.assert_array_equal(of_users.numbers, np.array([0, 3, 1, 2])[blocks_of(25)])
        np.testing.assert_array_equal(of_items.numbers, items)


def test_refuses_what_cannot_be_grouped():
    stores = block_stores()
    with pytest.raises(ValueError, match="received 18 active items for 19 macro nodes: lower the"):
        group_nodes(*stores, SCORES, MacroConfig(item_nodes=19, **ALL_ACTIVE))
    with pytest.raises(ValueError, match="active users as macro nodes; received 24 active users"):
        group_nodes(*stores, SCORES, MacroConfig(user_nodes=25, item_nodes=2, **ALL_ACTIVE))
    with pytest.raises(ValueError, match="no node is active: the highest sum of scores is 5"):
        group_nodes(*stores, SCORES, THREE.model_copy(update={"user_threshold": 6}))
    empty, _ = random_stores(0, 5, 4, 0)
    with pytest.raises(ValueError, match="no node is active: the highest sum of scores is 0"):
        group_nodes(*empty, SCORES, THREE)
    none = PreviousGroups(np.zeros(25, np.int32), np.zeros(19, np.int32), regroup=False)
    with pytest.raises(ValueError, match="expected active items among those that the previous"):
        group_nodes(*stores, SCORES, THREE, previous=none)


@pytest.mark.parametrize(
    ("categories", "match"),
    [
        (np.ones(18, int), "each of 19 items; received 18 from 0 to 1"),
        (np.arange(19) - 1, "received 19 from -1 to 17"),
        (np.arange(19) * 4000, "from 0 to 65000 for .* to 72000: choose a coarser category"),
    ],
)
def test_refuses_categories_that_are_no_macro_nodes(categories, match):
    with pytest.raises(ValueError, match=match):
        group_nodes(*block_stores(), SCORES, THREE, item_categories=categories)
