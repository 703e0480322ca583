"""Groups nodes by weighted k-means."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from tfmtl.graph.row_blocks import row_blocks

# More rows than these do not move centres of a few hundred clusters.
_FITTED_ROWS_PER_CLUSTER = 1000
_FEWEST_FITTED_ROWS = 20_000
# The products here are small, or row_blocks makes one per core already: more threads of BLAS wait
# for one another, and on a machine that others use too take twenty times as long.
_BLAS_THREADS = 1


class NodeRows(Protocol):
    """Rows that describe nodes, made when they are asked for."""

    def take(self, nodes: np.ndarray) -> np.ndarray:
        """Rows of some nodes, `float32 [n, k]`."""
        ...


def fitted_nodes(
    weights: np.ndarray, num_clusters: int, *, seed: int = 0, noun: str = "nodes"
) -> tuple[np.ndarray, int]:
    """The active nodes that `fit_centers` fits to: all of them, or a random sample.

    Args:
        weights: w, `float32 [N]`; nodes of weight 0 are not active.
        num_clusters: Number of clusters G.
        seed: Seed of the sample.
        noun: What the nodes are called in an error.

    Returns:
        Nodes, ascending, and the seed of k-means.

    Raises:
        ValueError: If fewer nodes than clusters are active.

    Example:
        >>> fitted_nodes(np.array([0, 1, 0.5], np.float32), 2)[0].tolist()
        [1, 2]
    """
    active = np.flatnonzero(weights > 0)
    if active.size < num_clusters:
        raise ValueError(
            f"expected at least as many active {noun} as macro nodes; received {active.size} "
            f"active {noun} for {num_clusters} macro nodes: lower the number of macro nodes or the "
            "threshold of activity"
        )
    generator = np.random.default_rng(seed)
    most = max(_FEWEST_FITTED_ROWS, _FITTED_ROWS_PER_CLUSTER * num_clusters)
    if active.size > most:
        active = np.sort(generator.choice(active, most, replace=False))
    return active, int(generator.integers(2**31))


def fit_centers(
    rows: NodeRows,
    weights: np.ndarray,
    num_clusters: int,
    *,
    seed: int = 0,
    noun: str = "nodes",
) -> np.ndarray:
    """Centres of a weighted mini-batch k-means on rows of unit length.

        c_p = sum_{v in p} w_v b_v / sum_{v in p} w_v        b_v = y_v / |y_v|

    A random sample of at most 1000 active nodes per cluster (20,000 at least) is enough to place
    the centres, so that the cost does not grow with the graph.

    Args:
        rows: y, a row per node.
        weights: w, `float32 [N]`; nodes of weight 0 do not move a centre.
        num_clusters: Number of clusters G.
        seed: Seed of the sample and of k-means.
        noun: What the nodes are called in an error.

    Returns:
        `float32 [G, k]`.

    Raises:
        ValueError: If fewer nodes than clusters are active.

    References:
        MGOE (KDD 2026), preference-based grouping; MacGNN (WWW 2024) for rows of unit length.

    Example:
        >>> class Plane:
        ...     def take(self, nodes):
        ...         return np.array([[1, 0], [2, 0], [0, 3]], np.float32)[nodes]
        >>> fit_centers(Plane(), np.ones(3, np.float32), 2).round(2).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    active, state = fitted_nodes(weights, num_clusters, seed=seed, noun=noun)
    estimator = MiniBatchKMeans(num_clusters, batch_size=4096, n_init=3, random_state=state)
    with threadpool_limits(_BLAS_THREADS, user_api="blas"):
        fitted = estimator.fit(_unit_rows(rows.take(active)), sample_weight=weights[active])
    return np.asarray(fitted.cluster_centers_, np.float32)


def nearest_centers(
    rows: NodeRows, centers: np.ndarray, linked: np.ndarray, *, progress: bool = False
) -> np.ndarray:
    """The macro node of each node: 1 plus the number of the nearest centre.

        a(v) = argmin_p |b_v - c_p|^2

    Every node with an edge is assigned, active or not. A centre may be nobody's nearest: that macro
    node stays empty, keeps its number, and no table mentions it.

    Args:
        rows: y, a row per node.
        centers: c, `float32 [G, k]`.
        linked: Whether each node has an edge, `bool [N]`; one without belongs to macro node 0.
        progress: Whether to show a progress bar.

    Returns:
        `int32 [N]` in `0..G`.

    Example:
        >>> class Line:
        ...     def take(self, nodes):
        ...         return np.array([[1, 0], [0, 2], [0, 0]], np.float32)[nodes]
        >>> centers = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
        >>> nearest_centers(Line(), centers, np.array([True, True, False])).tolist()
        [2, 1, 0]
    """
    placed = ~np.isnan(centers).any(axis=1)
    offsets = np.where(placed, (centers**2).sum(axis=1) / 2, np.inf)
    centers = np.where(placed[:, np.newaxis], centers, 0)

    def block(first: int, last: int) -> np.ndarray:
        scores = _unit_rows(rows.take(np.arange(first, last))) @ centers.T - offsets
        return np.where(linked[first:last], scores.argmax(axis=1) + 1, 0).astype(np.int32)

    blocks = row_blocks(block, len(linked), description="Grouping nodes", progress=progress)
    with threadpool_limits(_BLAS_THREADS, user_api="blas"):
        return np.concatenate([np.zeros(0, np.int32), *blocks])


def member_centers(
    rows: NodeRows, groups: np.ndarray, weights: np.ndarray, num_clusters: int
) -> np.ndarray:
    """Centres of given groups: the weighted means of their members' unit rows.

    Args:
        rows: y, a row per node.
        groups: Macro node of each node, `int32 [N]`; 0 for none.
        weights: w, `float32 [N]`.
        num_clusters: Number of clusters G.

    Returns:
        `float32 [G, k]`; NaN for a group without an active member, which is nobody's nearest.

    Example:
        >>> class Plane:
        ...     def take(self, nodes):
        ...         return np.array([[1, 0], [0, 2], [0, 3]], np.float32)[nodes]
        >>> groups, weights = np.array([1, 2, 1]), np.ones(3, np.float32)
        >>> member_centers(Plane(), groups, weights, 2).tolist()
        [[0.5, 0.5], [0.0, 1.0]]
    """
    members = np.flatnonzero((groups > 0) & (weights > 0))
    totals = np.bincount(groups[members] - 1, weights[members], num_clusters)

    def block(first: int, last: int) -> np.ndarray:
        nodes = members[first:last]
        weighted = _unit_rows(rows.take(nodes)) * weights[nodes, np.newaxis]
        block_sums = np.zeros((num_clusters, weighted.shape[1]))
        np.add.at(block_sums, groups[nodes] - 1, weighted)
        return block_sums

    sums = block(0, 0)
    for block_sums in row_blocks(block, len(members)):
        sums += block_sums
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / totals[:, np.newaxis], np.float32)


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
