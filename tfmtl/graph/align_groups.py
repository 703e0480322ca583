"""Lets new macro nodes keep the numbers of the old ones that they continue."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment


def align_groups(groups: np.ndarray, previous: np.ndarray, num_groups: int) -> np.ndarray:
    """New numbers of groups, under which as many nodes as possible keep their group's number.

    A trained model has an embedding per macro node; grouped anew, macro nodes come in another order
    and the embeddings would describe others. The one-to-one assignment with the most common members
    is found by the Hungarian method.

    Args:
        groups: New group of each node, integers `[N]` in `0..G`; 0 is no group.
        previous: Group of the same nodes before, in `0..G`; 0 for none or for a new node.
        num_groups: Number of groups G.

    Returns:
        New number of each group, `int32 [G + 1]`, that of 0 being 0.

    Raises:
        ValueError: If a group is out of range.

    Example:
        >>> groups, previous = np.array([2, 2, 1, 0, 1]), np.array([1, 1, 2, 2, 0])
        >>> align_groups(groups, previous, 2)[groups].tolist()
        [1, 1, 2, 0, 2]
    """
    for name, values in (("groups", groups), ("previous", previous)):
        highest = int(values.max(initial=0))
        if highest > num_groups:
            raise ValueError(
                f"expected {name} from 0 to {num_groups}; received {highest}: align macro graphs "
                "of the same number of macro nodes"
            )
    common = np.zeros((num_groups, num_groups), np.int64)
    both = (groups > 0) & (previous > 0)
    np.add.at(common, (groups[both] - 1, previous[both] - 1), 1)
    _, columns = linear_sum_assignment(common, maximize=True)
    return np.concatenate([[0], columns + 1]).astype(np.int32)
