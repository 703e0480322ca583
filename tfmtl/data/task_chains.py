"""Chains of tasks, from the one that starts a behaviour to each that follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from tfmtl.schema import Task


def task_chains(tasks: Sequence[Task]) -> dict[str, tuple[str, ...]]:
    """The chain of parents of every task, first ancestor first and the task itself last.

    Args:
        tasks: Tasks in any order.

    Returns:
        Task name to the names of its chain, in the order of the tasks.

    Raises:
        ValueError: If a parent is not among the tasks, or tasks are their own ancestors.

    Example:
        >>> task_chains([Task(name="buy", parent="click"), Task(name="click")])
        {'buy': ('click', 'buy'), 'click': ('click',)}
    """
    parents = {task.name: task.parent for task in tasks}
    chains = {}
    for name in parents:
        chain, parent = [name], parents[name]
        while parent is not None:
            if parent not in parents:
                raise ValueError(
                    f"expected the parents of all tasks among the model's tasks {list(parents)}; "
                    f"received task {chain[0]!r} with parent {parent!r}: add the parent, or give "
                    "the task none"
                )
            if parent in chain:
                raise ValueError(
                    "expected tasks that are not their own ancestors; received the parents "
                    f"{parents}: let one of the tasks above {name!r} have none"
                )
            chain.insert(0, parent)
            parent = parents[parent]
        chains[name] = tuple(chain)
    return chains
