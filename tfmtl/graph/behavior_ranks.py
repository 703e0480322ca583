"""What each behaviour adds to the rank of a pair of user and item."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tfmtl.data.task_chains import task_chains
from tfmtl.schema import Task


def behavior_ranks(tasks: Sequence[Task]) -> tuple[int, ...]:
    """Numbers r such that the rank of a set C of behaviours is the sum of r_t over t in C.

    Behaviours are ordered by `Task.order`, of equal order parents before their children. A stronger
    behaviour outranks all weaker ones together: in a chain r is 1, 2, 4, ..., a binary code.
    Behaviours that the order leaves tied have the same r, so that only their number counts: with
    levels of m_1, m_2, ... tied behaviours, r of level l is the product of m + 1 over the levels
    below it.

    Args:
        tasks: Tasks in any order.

    Returns:
        r of each task, in the order of the tasks.

    Raises:
        ValueError: If a parent is not among the tasks.

    References:
        Zhang et al., Multi-Behavior Collaborative Filtering with Partial Order Graph Convolutional
        Networks (KDD 2024): the partial order of behaviour combinations.

    Example:
        >>> click, buy = Task(name="click"), Task(name="buy", order=2)
        >>> behavior_ranks([buy, click, Task(name="like", order=1), Task(name="cart", order=1)])
        (6, 1, 2, 2)
    """
    chains = task_chains(tasks)
    levels = {task.name: (task.order, len(chains[task.name])) for task in tasks}
    ranks, rank = {}, 1
    for level, members in itertools.groupby(sorted(levels.values())):
        ranks[level] = rank
        rank *= 1 + len(list(members))
    return tuple(ranks[levels[task.name]] for task in tasks)
