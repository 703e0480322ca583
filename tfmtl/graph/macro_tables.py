"""Macro neighbours of every user and item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tfmtl.graph.csr import CSR
from tfmtl.graph.native import native
from tfmtl.graph.row_blocks import row_blocks


@native
def _gather_groups(  # type: ignore[no-untyped-def]
    indptr, indices, behaviors, scores, weights, groups, first, last, num_groups, ids, sums, counts
):
    """Sums of s w per macro node of the neighbours, packed to the front of each row's edges."""
    dense = np.zeros(num_groups + 1, np.float32)
    seen = np.zeros(num_groups + 1, np.bool_)
    for row in range(first, last):
        begin, kept = indptr[row], 0
        for edge in range(begin, indptr[row + 1]):
            source = indices[edge]
            group = groups[source]
            if not seen[group]:
                seen[group] = True
                ids[begin + kept] = group
                kept += 1
            dense[group] += scores[behaviors[edge]] * weights[source]
        for place in range(begin, begin + kept):
            group = ids[place]
            sums[place] = dense[group]
            dense[group] = 0
            seen[group] = False
        counts[row] = kept


@native
def _fill_rows(  # type: ignore[no-untyped-def]
    indptr,
    indices,
    behaviors,
    scores,
    groups,
    ids,
    sums,
    counts,
    other_indptr,
    other_ids,
    other_sums,
    other_counts,
    first,
    last,
    num_tasks,
    out_first,
    out_second,
    out_tasks,
):
    """Rows of the first hop, the second hop and the tasks, not yet logarithms."""
    for row in range(first, last):
        one, two, tasks = out_first[row - first], out_second[row - first], out_tasks[row - first]
        begin = indptr[row]
        for place in range(begin, begin + counts[row]):
            one[ids[place]] = sums[place]
        for edge in range(begin, indptr[row + 1]):
            source, bits = indices[edge], behaviors[edge]
            score = scores[bits]
            begin_of_source = other_indptr[source]
            for place in range(begin_of_source, begin_of_source + other_counts[source]):
                two[other_ids[place]] += score * other_sums[place]
            group = groups[source]
            for task in range(num_tasks):
                tasks[task, group] += np.float32((bits >> task) & 1)


@dataclass(frozen=True, eq=False)
class MacroSide:
    """The nodes of one side as the other side's neighbours.

    Args:
        edges: Edges grouped by these nodes, with `behavior`; each pair once.
        groups: Macro node of each node, `int32 [N]`, 0 for none.
        weights: Activity weight of each node, `float32 [N]`.
        num_groups: Number of macro nodes G.

    Example:
        >>> edges = CSR.from_edges(np.array([1]), np.array([1]), 2, 2,
        ...                        {"behavior": np.array([1], np.uint8)})
        >>> MacroSide(edges, np.array([0, 1], np.int32), np.ones(2, np.float32), 1).num_groups
        1
    """

    edges: CSR
    groups: np.ndarray
    weights: np.ndarray
    num_groups: int


class MacroTables:
    """The macro neighbourhoods of users and items, as logarithms in half precision.

        N_U1 = S   W_I C_I          N_I1 = S^T W_U C_U            first hop
        N_U2 = S  (S^T W_U C_U)     N_I2 = S^T (S W_I C_I)        second hop
        P_U^t = A^t C_I             P_I^t = A^t^T C_U             per task

    Rows of users are `[log(1 + N_U1) || log(1 + N_U2) || log(1 + P_U^1) || ...]`, of widths
    G_I + 1, G_U + 1 and T (G_I + 1); rows of items have users and items swapped. Column 0 of a part
    is macro node 0, that of nodes without edges. Products are evaluated from the right, with the
    first hop's sums kept sparse: time O(edges (min(degree, G) + T)), memory O(edges).

    Args:
        users: Users, with edges grouped by user.
        items: Items, with the same edges grouped by item.
        scores: Score per combination of behaviours, `float32 [2^T]`.
        num_tasks: Number of tasks T, whose behaviours are the bits of an edge.
        progress: Whether to show progress bars.

    References:
        MGOE (KDD 2026), macro task merging graph; MacGNN (WWW 2024) is the case S = A, W = 1.

    Example:
        >>> edges = CSR.from_edges(np.array([1, 1]), np.array([1, 2]), 2, 3,
        ...                        {"behavior": np.array([1, 1], np.uint8)})
        >>> one, two = np.array([0, 1], np.int32), np.array([0, 1, 2], np.int32)
        >>> users = MacroSide(edges, one, np.ones(2, np.float32), 1)
        >>> items = MacroSide(edges.transpose(), two, np.ones(3, np.float32), 2)
        >>> tables = MacroTables(users, items, np.array([0, 1], np.float32), 1)
        >>> np.expm1(np.concatenate([*tables.user_rows()]).astype(float)).round(2).tolist()[1]
        [0.0, 1.0, 1.0, 0.0, 2.0, 0.0, 1.0, 1.0]
    """

    def __init__(
        self,
        users: MacroSide,
        items: MacroSide,
        scores: np.ndarray,
        num_tasks: int,
        *,
        progress: bool = False,
    ):
        self._users, self._items = users, items
        self._scores = scores
        self._num_tasks = num_tasks
        self._progress = progress
        self._user_sums = self._first_hop(users, items)
        self._item_sums = self._first_hop(items, users)

    def user_rows(self) -> Iterator[np.ndarray]:
        """Blocks of the users' rows, `float16 [n, W_U]`, in order."""
        return self._rows(self._users, self._items, self._user_sums, self._item_sums)

    def item_rows(self) -> Iterator[np.ndarray]:
        """Blocks of the items' rows, `float16 [n, W_I]`, in order."""
        return self._rows(self._items, self._users, self._item_sums, self._user_sums)

    def _first_hop(
        self, side: MacroSide, other: MacroSide
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        edges = side.edges
        ids = np.empty(edges.num_edges, np.uint16)
        sums = np.empty(edges.num_edges, np.float32)
        counts = np.zeros(edges.num_rows, np.int32)

        def block(first: int, last: int) -> None:
            _gather_groups(
                edges.indptr,
                edges.indices,
                edges.data["behavior"],
                self._scores,
                other.weights,
                other.groups,
                first,
                last,
                other.num_groups,
                ids,
                sums,
                counts,
            )

        for _ in row_blocks(
            block, edges.num_rows, description="First hop", progress=self._progress
        ):
            pass
        return ids, sums, counts

    def _rows(
        self,
        side: MacroSide,
        other: MacroSide,
        own_sums: tuple[np.ndarray, np.ndarray, np.ndarray],
        other_sums: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> Iterator[np.ndarray]:
        edges, tasks = side.edges, self._num_tasks

        def block(first: int, last: int) -> np.ndarray:
            rows = last - first
            one = np.zeros((rows, other.num_groups + 1), np.float32)
            two = np.zeros((rows, side.num_groups + 1), np.float32)
            per_task = np.zeros((rows, tasks, other.num_groups + 1), np.float32)
            _fill_rows(
                edges.indptr,
                edges.indices,
                edges.data["behavior"],
                self._scores,
                other.groups,
                *own_sums,
                other.edges.indptr,
                *other_sums,
                first,
                last,
                tasks,
                one,
                two,
                per_task,
            )
            joined = np.concatenate([one, two, per_task.reshape(rows, -1)], axis=1)
            return np.log1p(joined, out=joined).astype(np.float16)

        return row_blocks(
            block,
            edges.num_rows,
            block_rows=4096,
            description="Macro neighbours",
            progress=self._progress,
        )
