"""The toy of the paper's Figure 2, worked by hand from behaviours to macro edges.

Ids are numbered from 1, 0 is the unknown one. The weights are those drawn: click 1, favor 2, buy 3,
favor and buy 5.

              item 1   item 2      item 3   item 4      item 5   sum
    user 1    click 1  favor 2     buy 3    favor 2              8
    user 2    click 1  favor+buy 5          favor+buy 5 click 1  12
    user 3                         favor 2              click 1  3, inactive
    sum       2, inact. 7          5        7           2, inact.

Macro users are {1, 3} and {2}, macro items {1, 2, 3} and {4, 5}: users 1 and 3 are of one macro
node although 3 is inactive, and inactive items lie in both macro items.
"""

import numpy as np
import pytest

from tests.graph.macro_logs import counts
from tfmtl.graph import MacroConfig, interaction_stores, macro_graph_of_stores
from tfmtl.graph.macro_groups import PreviousGroups

CLICK, FAVOR, BUY = 1, 2, 4
BEHAVIORS = [
    (1, 1, CLICK),
    (1, 2, FAVOR),
    (1, 3, BUY),
    (1, 4, FAVOR),
    (2, 1, CLICK),
    (2, 2, FAVOR),
    (2, 2, BUY),
    (2, 4, BUY),
    (2, 4, FAVOR),
    (2, 5, CLICK),
    (3, 3, FAVOR),
    (3, 5, CLICK),
]
# By combination: none, C, F, CF, B, CB, FB, CFB.
SCORES = np.array([0, 1, 2, 3, 3, 4, 5, 6], np.float32)


@pytest.fixture(scope="module")
def graph():
    users, items, bits = np.array(BEHAVIORS).T
    stores = interaction_stores(users, items, bits.astype(np.uint8), 4, 6)
    given = PreviousGroups(
        np.array([0, 1, 2, 1], np.int32), np.array([0, 1, 1, 1, 2, 2], np.int32), regroup=False
    )
    config = MacroConfig(
        user_nodes=2,
        item_nodes=2,
        activity="value",
        user_threshold=4,
        item_threshold=4,
        recent=3,
    )
    return macro_graph_of_stores(stores, SCORES, config, previous=given)


def part(rows, first, last):
    return counts(rows[0, 1:, first:last]).round(1).tolist()


def test_groups_stay_as_given(graph):
    assert graph.user_groups[0].tolist() == [0, 1, 2, 1]
    assert graph.item_groups[0].tolist() == [0, 1, 1, 1, 2, 2]
    assert (graph.num_versions, graph.num_tasks) == (1, 3)


def test_users_to_macro_items(graph):
    # Items 1 and 5 are inactive and count for nothing.
    assert part(graph.user_rows, 0, 3) == [
        [0, 5, 2],  # item 2: 2, item 3: 3 | item 4: 2
        [0, 5, 5],  # item 2: 5            | item 4: 5
        [0, 2, 0],  # item 3: 2            | only item 5
    ]


def test_items_to_macro_users(graph):
    # User 3 is inactive.
    assert part(graph.item_rows, 0, 3) == [
        [0, 1, 1],  # user 1: 1 | user 2: 1
        [0, 2, 5],  # user 1: 2 | user 2: 5
        [0, 3, 0],  # user 1: 3 |
        [0, 2, 5],  # user 1: 2 | user 2: 5
        [0, 0, 1],  # only user 3 | user 2: 1
    ]


def test_users_to_macro_users(graph):
    # Each item's row above times the score of the user's edge to it; on these paths inactive items
    # count, as weights are those of the nodes at their end.
    assert part(graph.user_rows, 3, 6) == [
        [0, 18, 21],  # 1 (1, 1) + 2 (2, 5) + 3 (3, 0) + 2 (2, 5)
        [0, 21, 52],  # 1 (1, 1) + 5 (2, 5) + 5 (2, 5) + 1 (0, 1)
        [0, 6, 1],  #   2 (3, 0) + 1 (0, 1)
    ]


def test_items_to_macro_items(graph):
    assert part(graph.item_rows, 3, 6) == [
        [0, 10, 7],  #  1 (5, 2) + 1 (5, 5)
        [0, 35, 29],  # 2 (5, 2) + 5 (5, 5)
        [0, 19, 6],  #  3 (5, 2) + 2 (2, 0)
        [0, 35, 29],  # 2 (5, 2) + 5 (5, 5)
        [0, 7, 5],  #   1 (5, 5) + 1 (2, 0)
    ]


def test_macro_items_that_users_prefer_by_task(graph):
    # How many items, active or not: weights and scores have no part in the table of tasks.
    assert part(graph.user_rows, 6, 9) == [
        [0, 1, 0],  # click: item 1
        [0, 1, 1],  # item 1 | item 5
        [0, 0, 1],  # item 5
    ]
    assert part(graph.user_rows, 9, 12) == [
        [0, 1, 1],  # favor: item 2 | item 4
        [0, 1, 1],  # item 2 | item 4
        [0, 1, 0],  # item 3
    ]
    assert part(graph.user_rows, 12, 15) == [
        [0, 1, 0],  # buy: item 3
        [0, 1, 1],  # item 2 | item 4
        [0, 0, 0],  # user 3 buys nothing
    ]


def test_macro_users_that_prefer_items_by_task(graph):
    assert part(graph.item_rows, 6, 9) == [
        [0, 1, 1],  # click: user 1 | user 2
        [0, 0, 0],
        [0, 0, 0],
        [0, 0, 0],
        [0, 1, 1],  # user 3 | user 2
    ]
    assert part(graph.item_rows, 9, 12) == [
        [0, 0, 0],
        [0, 1, 1],  # favor: user 1 | user 2
        [0, 1, 0],  # user 3
        [0, 1, 1],  # user 1 | user 2
        [0, 0, 0],
    ]
    assert part(graph.item_rows, 12, 15) == [
        [0, 0, 0],
        [0, 0, 1],  # buy: user 2
        [0, 1, 0],  # user 1
        [0, 0, 1],  # user 2
        [0, 0, 0],
    ]


def test_the_strongest_neighbours_stand_for_the_latest(graph):
    assert graph.recent_items[0].tolist() == [
        [0, 0, 0],
        [3, 2, 4],  # buy 3, then favor 2 twice; item 1 of 1 is the fourth
        [2, 4, 1],  # favor and buy 5 twice, then click 1, of items 1 and 5 the first
        [3, 5, 0],  # favor 2, click 1
    ]
    assert graph.recent_item_behaviors[0, 1:].tolist() == [
        [BUY, FAVOR, FAVOR],
        [FAVOR | BUY, FAVOR | BUY, CLICK],
        [FAVOR, CLICK, 0],
    ]
    assert graph.recent_users[0, 1:].tolist() == [
        [1, 2, 0],
        [2, 1, 0],
        [1, 3, 0],
        [2, 1, 0],
        [2, 3, 0],
    ]


def test_the_unknown_user_and_item_have_rows_of_zeros(graph):
    for rows in (graph.user_rows, graph.item_rows):
        assert not rows[0, 0].any()
