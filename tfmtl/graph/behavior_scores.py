"""The merged score of a pair of user and item for every combination of behaviours."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from tfmtl.graph.behavior_ranks import behavior_ranks
from tfmtl.schema import Task

# The table has an entry per combination.
MAX_BEHAVIORS = 16


def behavior_scores(
    tasks: Sequence[Task], *, beta: float = 0.8, behaviors: Collection[str] | None = None
) -> np.ndarray:
    """Merges the behaviours on an edge into one number, by a Box-Cox transform of their rank.

        s = ((rho(C) + 1)^beta - 1) / beta        for beta != 0
          = ln(rho(C) + 1)                        for beta = 0

    C is the set of behaviours on the edge and rho(C) its rank, the sum of `behavior_ranks` over C;
    an edge without behaviours has s = 0.

    Args:
        tasks: Tasks of the schema, whose order and parents say which behaviour is stronger.
        beta: Exponent; the smaller, the less a stronger behaviour counts for.
        behaviors: Tasks that are ranked; all of them when left out. Others add nothing.

    Returns:
        `float32 [2^T]`, indexed by the bits of the behaviours: bit t is task t.

    Raises:
        ValueError: If a behaviour is unknown, there are too many tasks or beta is not finite.

    References:
        MGOE (KDD 2026), equation 6.

    Deviations:
        The rank is that of POGCN (KDD 2024), by the same group: the paper's own is not printed.

    Example:
        >>> chain = [Task(name=name, order=order) for order, name in enumerate(["click", "buy"])]
        >>> behavior_scores(chain, beta=1).tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    names = [task.name for task in tasks]
    if len(names) > MAX_BEHAVIORS:
        raise ValueError(
            f"expected at most {MAX_BEHAVIORS} tasks, as every combination has a score; received "
            f"{len(names)}: leave some out of the schema"
        )
    if not np.isfinite(beta):
        raise ValueError(f"expected a finite beta; received {beta}")
    chosen = names if behaviors is None else list(behaviors)
    unknown = sorted(set(chosen) - set(names))
    if unknown or not chosen:
        raise ValueError(f"expected behaviors among the tasks {names}; received {chosen}")
    ranked = [task for task in tasks if task.name in chosen]
    # A parent that is not ranked orders nothing.
    ranked = [
        task if task.parent in chosen else task.model_copy(update={"parent": None})
        for task in ranked
    ]
    rank_of = dict(zip((task.name for task in ranked), behavior_ranks(ranked), strict=True))
    combinations = np.arange(2 ** len(names))
    rank = np.zeros(len(combinations), np.float64)
    for bit, name in enumerate(names):
        rank += rank_of.get(name, 0) * (combinations >> bit & 1)
    scores = np.log1p(rank) if beta == 0 else ((rank + 1) ** beta - 1) / beta
    return scores.astype(np.float32)
