"""Groups the users and items of a graph into macro nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfmtl.graph.align_groups import align_groups
from tfmtl.graph.csr import CSR
from tfmtl.graph.macro_config import MOST_NODES, MacroConfig
from tfmtl.graph.neighborhood_sketch import NeighborhoodSketch
from tfmtl.graph.node_clusters import NodeRows, fit_centers, member_centers, nearest_centers
from tfmtl.graph.preference_weights import preference_weights


@dataclass(frozen=True, eq=False)
class Groups:
    """Macro node and activity weight of every node of one side.

    Args:
        numbers: Macro node of each node, `int32 [N]` in `0..count`, 0 for none.
        weights: Activity weight of each node, `float32 [N]`.
        count: Number of macro nodes.
        centers: Centre of each macro node, `float32 [count, k]`; None for categories.

    Example:
        >>> Groups(np.array([0, 1]), np.ones(2), 1).count
        1
    """

    numbers: np.ndarray
    weights: np.ndarray
    count: int
    centers: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class PreviousGroups:
    """Macro nodes of an earlier graph, for the ids of the new one.

    Args:
        users: Earlier macro node of each user of the new graph, `int32 [N_U]`; 0 for new users.
        items: The same for items, `int32 [N_I]`.
        regroup: Whether nodes are grouped anew and the new groups take the numbers of the earlier
            ones that they share most members with; otherwise nodes stay where they were, and new
            ones join the group whose centre is nearest.

    Example:
        >>> PreviousGroups(np.array([0, 1]), np.array([0, 2]), regroup=False).regroup
        False
    """

    users: np.ndarray
    items: np.ndarray
    regroup: bool = True


def category_groups(categories: np.ndarray, num_items: int) -> np.ndarray:
    """Macro item nodes that are categories.

    Args:
        categories: Category of each item, integers `[N_I]`; 0 is none.
        num_items: Number N_I of item ids.

    Returns:
        The categories, `int32 [N_I]`.

    Raises:
        ValueError: If a category is missing or out of range.

    Example:
        >>> category_groups(np.array([0, 2, 1]), 3).tolist()
        [0, 2, 1]
    """
    numbers = categories.astype(np.int32)
    lowest, highest = int(numbers.min(initial=0)), int(numbers.max(initial=0))
    if len(numbers) != num_items or lowest < 0 or highest > MOST_NODES:
        raise ValueError(
            f"expected a category from 0 to {MOST_NODES} for each of {num_items} items; received "
            f"{len(numbers)} from {lowest} to {highest}: choose a coarser category as item_groups"
        )
    return numbers


class _SumsOverGroups:
    """Rows of N_U1: sums of scores over macro item nodes."""

    def __init__(self, edges: CSR, scores: np.ndarray, groups: np.ndarray, num_groups: int):
        self._edges, self._scores, self._groups = edges, scores, groups
        self._num_groups = num_groups

    def take(self, nodes: np.ndarray) -> np.ndarray:
        edges = self._edges
        counts = edges.degrees[nodes]
        ends = np.cumsum(counts)
        places = np.arange(ends[-1] if ends.size else 0)
        places += np.repeat(edges.indptr[nodes].astype(np.int64) - (ends - counts), counts)
        key = np.repeat(np.arange(len(nodes)), counts) * (self._num_groups + 1)
        key += self._groups[edges.indices[places]]
        size = len(nodes) * (self._num_groups + 1)
        sums = np.bincount(key, self._scores[edges.data["behavior"][places]], size)
        return sums.reshape(len(nodes), self._num_groups + 1).astype(np.float32)


def group_nodes(
    item_user: CSR,
    user_item: CSR,
    scores: np.ndarray,
    config: MacroConfig,
    *,
    item_categories: np.ndarray | None = None,
    previous: PreviousGroups | None = None,
    like: tuple[Groups, Groups] | None = None,
    progress: bool = False,
) -> tuple[Groups, Groups]:
    """Groups users by their rows of S S^T and items by theirs of S^T S.

    With `like`, the groups of a graph of more rows, every node joins the centre that is nearest to
    its rows here: the same macro nodes, without what the rows that are left out would tell.

    Args:
        item_user: Edges grouped by user, with `behavior`.
        user_item: The same edges grouped by item.
        scores: Score per combination of behaviours.
        config: Numbers of macro nodes, thresholds, and what users are clustered on.
        item_categories: Category of each item, integers `[N_I]`, which are then the macro item
            nodes: MacGNN's grouping.
        previous: Groups of an earlier graph to go on from.
        like: Groups of users and items whose centres are taken, in place of new or previous ones.
        progress: Whether to show progress bars.

    Returns:
        Groups of the users and of the items.

    Raises:
        ValueError: If no node is active, fewer are than macro nodes, or a category is out of range.

    References:
        MGOE (KDD 2026), preference-based grouping. MacGNN (WWW 2024): categories as macro items,
        users clustered on their counts of categories.

    Example:
        >>> users, items = np.array([1, 2, 3]), np.array([1, 1, 2])
        >>> behavior = {"behavior": np.ones(3, np.uint8)}
        >>> item_user = CSR.from_edges(users, items, 4, 3, behavior)
        >>> scores = np.array([0, 1], np.float32)
        >>> of_users, _ = group_nodes(
        ...     item_user, item_user.transpose(), scores, MacroConfig(user_nodes=2, item_nodes=2))
        >>> bool(of_users.numbers[1] == of_users.numbers[2] != of_users.numbers[3])
        True
    """
    seeds = [int(value) for value in np.random.SeedSequence(config.seed).generate_state(4)]

    def weights(edges: CSR, threshold: float) -> np.ndarray:
        if like is not None and not edges.num_edges:
            return np.zeros(edges.num_rows, np.float32)
        sums = np.add.reduceat(
            np.append(scores[edges.data["behavior"]], np.float32(0)),
            np.minimum(edges.indptr[:-1], edges.num_edges),
            dtype=np.float64,
        )
        sums[edges.degrees == 0] = 0
        return preference_weights(
            sums, threshold, activity=config.activity, weighting=config.weighting
        )

    def clustered(noun: str, rows: NodeRows, edges: CSR, threshold: float, seed: int) -> Groups:
        weight = weights(edges, threshold)
        count = config.user_nodes if noun == "users" else config.item_nodes
        linked = edges.degrees > 0
        if like is not None:
            centers = like[noun == "items"].centers
            assert centers is not None
            numbers = nearest_centers(rows, centers, linked, progress=progress)
            return Groups(numbers, weight, count, centers)
        old = None if previous is None else getattr(previous, noun)
        if old is not None and previous is not None and not previous.regroup:
            centers = member_centers(rows, old, weight, count)
            if np.isnan(centers).all():
                raise ValueError(
                    f"expected active {noun} among those that the previous macro graph grouped; "
                    "received none: set regroup=True, or build without the previous one"
                )
            joined = nearest_centers(rows, centers, linked & (old == 0), progress=progress)
            return Groups(np.where(old > 0, old, joined).astype(np.int32), weight, count, centers)
        centers = fit_centers(rows, weight, count, seed=seed, noun=noun)
        numbers = nearest_centers(rows, centers, linked, progress=progress)
        if old is not None:
            new_numbers = align_groups(numbers, old, count)
            numbers, centers = new_numbers[numbers], centers[np.argsort(new_numbers[1:])]
        return Groups(numbers, weight, count, centers)

    if item_categories is not None:
        numbers = category_groups(item_categories, user_item.num_rows)
        weight = weights(user_item, config.item_threshold)
        items = Groups(numbers, weight, int(numbers.max(initial=0)))
    else:
        sketch = NeighborhoodSketch(
            user_item, item_user, scores, config.sketch_dim, seeds[0], progress=progress
        )
        items = clustered("items", sketch, user_item, config.item_threshold, seeds[1])
        del sketch
    rows: NodeRows
    if config.cluster_users_on == "item_groups":
        rows = _SumsOverGroups(item_user, scores, items.numbers, items.count)
    else:
        rows = NeighborhoodSketch(
            item_user, user_item, scores, config.sketch_dim, seeds[2], progress=progress
        )
    return clustered("users", rows, item_user, config.user_threshold, seeds[3]), items
