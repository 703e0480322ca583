"""Extends a similarity graph by new interactions without building it again."""

from __future__ import annotations

import numpy as np

from tfmtl.graph.csr import CSR
from tfmtl.graph.native import native
from tfmtl.graph.similarity_config import Measure
from tfmtl.graph.similarity_index import SimilarityIndex
from tfmtl.graph.similarity_kernel import seed_lists
from tfmtl.graph.similarity_neighborhoods import SimilarityNeighborhoods
from tfmtl.graph.similarity_parameters import MEASURES, check_similarity_parameters
from tfmtl.graph.similarity_rows import SimilarityRows

# Above this share of changed receivers a build from scratch does less work.
_MOST_CHANGED = 0.5
# A number of common neighbours survives the rounding of its score to float32 up to here.
_LARGEST_SIZE = 1 << 22


@native
def _compare(  # type: ignore[no-untyped-def]
    old_indptr, old_pivots, old_counted, indptr, pivots, is_counted, row_ids, column_ids
):
    """Whether each old row still has the counted pivots it had.

    Also the first old row with a neighbour that its new row lacks, or -1.
    """
    same = np.ones(old_indptr.size - 1, np.bool_)
    for row in range(same.size):
        edge, end = indptr[row_ids[row]], indptr[row_ids[row] + 1]
        for old_edge in range(old_indptr[row], old_indptr[row + 1]):
            old_pivot = old_pivots[old_edge]
            pivot = column_ids[old_pivot]
            while edge < end and pivots[edge] < pivot:
                same[row] &= not is_counted[pivots[edge]]
                edge += 1
            if edge == end or pivots[edge] != pivot:
                return same, row
            same[row] &= old_counted[old_pivot] == is_counted[pivot]
            edge += 1
        while edge < end:
            same[row] &= not is_counted[pivots[edge]]
            edge += 1
    return same, -1


def _checked_ids(ids: np.ndarray | None, name: str, num_old: int, num_new: int) -> np.ndarray:
    """New id of each old one, `int64`; the old ids themselves where none are given."""
    ids = np.arange(num_old) if ids is None else np.asarray(ids).astype(np.int64)
    if ids.shape != (num_old,):
        raise ValueError(
            f"expected {name} of shape [{num_old}], the new id of every old one; received shape "
            f"{list(ids.shape)}"
        )
    if num_old and not (ids[0] >= 0 and ids[-1] < num_new and (np.diff(ids) > 0).all()):
        raise ValueError(
            f"expected {name} to ascend strictly within [0, {num_new}), as in a sorted vocabulary "
            f"with insertions; received ids from {ids.min()} to {ids.max()}"
        )
    return ids


def extend_similarity_graph(
    graph: CSR,
    before: CSR,
    after: CSR,
    *,
    row_ids: np.ndarray | None = None,
    column_ids: np.ndarray | None = None,
    measure: Measure = "count",
    min_degree: int = 5,
    top_k: int = 20,
    min_common: int = 2,
    max_pivot_degree: int = 5000,
    block_rows: int = 512,
    progress: bool = False,
) -> CSR:
    """The similarity graph of `after`, from that of `before`, at the cost of what changed.

    The result is bit for bit what `build_similarity_graph(after, ...)` returns. A receiver has
    changed where its counted neighbours differ: it has new ones, takes part for the first time, or
    one of its neighbours now exceeds `max_pivot_degree`. Two receivers that have not changed are as
    similar as before. So the lists of changed receivers are found anew, and all others are only
    compared with the changed ones. A full list whose last entry falls in rank by that is found
    anew too, because an entry that it had no room for may now belong to it.

    Where more than half of the receivers have changed, the graph is built from scratch.

    Args:
        graph: What `build_similarity_graph(before, ...)` returned, with the same parameters.
        before: Interaction edges that `graph` was built from.
        after: Interaction edges now: all those of `before`, and new ones.
        row_ids: Row of `after` for each row of `before`, strictly ascending `[before.num_rows]`;
            `None` where rows kept their ids.
        column_ids: Likewise for columns, `[before.num_columns]`.
        measure: As `graph` was built.
        min_degree: As `graph` was built.
        top_k: As `graph` was built.
        min_common: As `graph` was built.
        max_pivot_degree: As `graph` was built.
        block_rows: Receivers per unit of work.
        progress: Show progress bars.

    Returns:
        A square store with `weight float32`; row r lists the sources similar to r, ascending.

    Raises:
        ValueError: If a parameter is out of range, ids do not ascend, `graph` is not a graph over
            the rows of `before`, or `after` lacks an edge of `before`.

    Example:
        >>> from tfmtl.graph.similarity_graph import build_similarity_graph
        >>> users, items = np.array([1, 1, 2, 2, 3]), np.array([1, 2, 1, 2, 1])
        >>> before = CSR.from_edges(users, items, 4, 3)
        >>> parameters = {"min_degree": 1, "min_common": 1}
        >>> graph = build_similarity_graph(before, **parameters)
        >>> after = CSR.from_edges(np.append(users, 3), np.append(items, 2), 4, 3)
        >>> extended = extend_similarity_graph(graph, before, after, **parameters)
        >>> graph.degrees.tolist(), extended.degrees.tolist()
        ([0, 1, 1, 0], [0, 2, 2, 2])
    """
    check_similarity_parameters(
        measure=measure,
        min_degree=min_degree,
        top_k=top_k,
        min_common=min_common,
        max_pivot_degree=max_pivot_degree,
        block_rows=block_rows,
    )
    new_rows = _checked_ids(row_ids, "row_ids", before.num_rows, after.num_rows)
    new_columns = _checked_ids(column_ids, "column_ids", before.num_columns, after.num_columns)
    if (graph.num_rows, graph.num_columns) != (before.num_rows, before.num_rows):
        raise ValueError(
            f"expected a graph over the {before.num_rows} rows of before; received "
            f"{graph.num_rows} rows and {graph.num_columns} columns"
        )
    if graph.num_rows and graph.degrees.max() > top_k:
        raise ValueError(
            f"expected a graph built with top_k={top_k}; received a row with "
            f"{graph.degrees.max()} edges"
        )

    old = SimilarityNeighborhoods.of(before, min_degree, max_pivot_degree)
    new = SimilarityNeighborhoods.of(after, min_degree, max_pivot_degree)
    same, lacking = _compare(
        old.indptr,
        old.pivots,
        old.is_counted,
        new.indptr,
        new.pivots,
        new.is_counted,
        new_rows,
        new_columns,
    )
    if lacking >= 0:
        raise ValueError(
            f"after lacks an edge that before has in its row {lacking}; a similarity graph is "
            "extended by new edges only: build it from scratch"
        )
    took_part = np.zeros(before.num_rows, bool)
    took_part[old.participants] = True
    stays = same & took_part & (old.sizes <= _LARGEST_SIZE)

    old_of = np.full(after.num_rows, -1, np.int64)
    old_of[new_rows[stays]] = np.flatnonzero(stays)
    unchanged = new.participants[old_of[new.participants] >= 0]
    changed = new.participants[old_of[new.participants] < 0]
    whole = SimilarityIndex(new, new.participants, measure, min_common)
    if changed.size > _MOST_CHANGED * new.participants.size:
        blocks = SimilarityRows.in_blocks(
            lambda rows: whole.rows(rows, top_k), new.participants, block_rows, progress
        )
        return SimilarityRows.store(blocks, after.num_rows)

    arrivals = SimilarityIndex(new, changed, measure, min_common)
    earlier = (np.asarray(graph.indptr), np.asarray(graph.indices))
    weights = np.asarray(graph.data["weight"])

    def merged(rows: np.ndarray) -> SimilarityRows:
        best = np.empty((rows.size, top_k), np.int32)
        scores = np.empty((rows.size, top_k), np.float64)
        counts, last, last_scores = seed_lists(
            old_of[rows],
            *earlier,
            weights,
            old.sizes,
            new_rows,
            stays,
            best,
            scores,
            MEASURES.index(measure),
        )
        arrivals.search(rows, best, scores, counts)
        reaches = (scores[:, -1] > last_scores) | (
            (scores[:, -1] == last_scores) & (best[:, -1] <= last)
        )
        settled = (last < 0) | ((counts == top_k) & reaches)
        return SimilarityRows.of_lists(
            rows[settled], best[settled], scores[settled], counts[settled]
        )

    blocks = SimilarityRows.in_blocks(merged, unchanged, block_rows, progress)
    settled = [block.rows for block in blocks]
    anew = np.setdiff1d(new.participants, np.concatenate([changed[:0], *settled]))
    blocks += SimilarityRows.in_blocks(
        lambda rows: whole.rows(rows, top_k), anew, block_rows, progress
    )
    return SimilarityRows.store(blocks, after.num_rows)
