import itertools

import pytest

from tfmtl.graph.behavior_ranks import behavior_ranks
from tfmtl.schema import Task


def rank(tasks, *behaviors):
    ranks = dict(zip([task.name for task in tasks], behavior_ranks(tasks), strict=True))
    return sum(ranks[name] for name in behaviors)


def test_a_chain_is_a_binary_code():
    tasks = [Task(name="buy", order=7), Task(name="click"), Task(name="favor", order=1)]
    assert [
        rank(tasks, "click"),
        rank(tasks, "favor"),
        rank(tasks, "click", "favor"),
        rank(tasks, "buy"),
        rank(tasks, "click", "buy"),
        rank(tasks, "favor", "buy"),
        rank(tasks, "click", "favor", "buy"),
    ] == [1, 2, 3, 4, 5, 6, 7]


def test_tied_behaviors_count_alike():
    tasks = [
        Task(name="click"),
        Task(name="cart", order=1),
        Task(name="favor", order=1),
        Task(name="buy", order=2),
    ]
    assert behavior_ranks(tasks) == (1, 2, 2, 6)
    assert rank(tasks, "click", "cart", "favor", "buy") == 11
    # Both tied behaviours together stay below the next level, one of them above the last.
    assert rank(tasks, "click") < rank(tasks, "cart") == rank(tasks, "favor")
    assert rank(tasks, "click", "cart", "favor") < rank(tasks, "buy")


def test_more_behaviors_never_weigh_less():
    """The fault of POGCN's released code, where behaviours are tied."""
    orders = {"a": 0, "b": 1, "c": 1, "d": 1, "e": 2}
    tasks = [Task(name=name, order=order) for name, order in orders.items()]
    for size in range(5):
        for chosen in itertools.combinations("abcde", size):
            for other in set("abcde") - set(chosen):
                assert rank(tasks, *chosen, other) > rank(tasks, *chosen)


def test_a_child_outranks_its_parent_of_equal_order():
    tasks = [Task(name="buy", parent="like"), Task(name="like", parent="view"), Task(name="view")]
    assert behavior_ranks(tasks) == (4, 2, 1)


def test_without_an_order_the_number_of_behaviors_counts():
    assert behavior_ranks([Task(name="click"), Task(name="click_x")]) == (1, 1)


def test_refuses_a_parent_that_is_not_there():
    with pytest.raises(ValueError, match="received task 'buy' with parent 'click'"):
        behavior_ranks([Task(name="buy", parent="click")])
