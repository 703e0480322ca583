"""Builds the graph of similar users, or of similar items, from common interactions."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
from rich.progress import track

from tfmtl.graph.csr import CSR
from tfmtl.graph.native import native
from tfmtl.graph.similarity_config import Measure

_MEASURES = get_args(Measure)


@native
def _similar_rows(  # type: ignore[no-untyped-def]
    first, last, indptr, pivots, pivot_indptr, members, measure, top_k, min_common
):
    """Best columns, their scores and their number for rows [first, last); columns ascend."""
    common = np.zeros(indptr.size - 1, np.int32)
    touched = np.empty(indptr.size - 1, np.int32)
    columns = np.empty((last - first, top_k), np.int32)
    scores = np.empty((last - first, top_k), np.float64)
    counts = np.zeros(last - first, np.int64)
    for row in range(first, last):
        num_touched = 0
        for edge in range(indptr[row], indptr[row + 1]):
            pivot = pivots[edge]
            for place in range(pivot_indptr[pivot], pivot_indptr[pivot + 1]):
                other = members[place]
                if common[other] == 0:
                    touched[num_touched] = other
                    num_touched += 1
                common[other] += 1
        own_size = indptr[row + 1] - indptr[row]
        best, best_scores, kept = columns[row - first], scores[row - first], 0
        for index in range(num_touched):
            other = touched[index]
            shared = common[other]
            common[other] = 0
            if other == row or shared <= min_common:
                continue
            score = np.float64(shared)
            other_size = indptr[other + 1] - indptr[other]
            if measure == 1:
                score /= np.sqrt(np.float64(own_size * other_size))
            elif measure == 2:
                score /= np.float64(own_size + other_size - shared)
            if kept == top_k:
                if score < best_scores[kept - 1] or (
                    score == best_scores[kept - 1] and other > best[kept - 1]
                ):
                    continue
                kept -= 1
            place = kept
            while place > 0 and (
                best_scores[place - 1] < score
                or (best_scores[place - 1] == score and best[place - 1] > other)
            ):
                best[place] = best[place - 1]
                best_scores[place] = best_scores[place - 1]
                place -= 1
            best[place] = other
            best_scores[place] = score
            kept += 1
        order = np.argsort(best[:kept])
        best[:kept] = best[:kept][order]
        best_scores[:kept] = best_scores[:kept][order]
        counts[row - first] = kept
    return columns, scores, counts


def build_similarity_graph(
    receiver_to_other: CSR,
    *,
    measure: Measure = "count",
    min_degree: int = 5,
    top_k: int = 20,
    min_common: int = 2,
    max_pivot_degree: int = 5000,
    block_rows: int = 512,
    progress: bool = False,
) -> CSR:
    """Links each receiver to the receivers with which it shares most neighbours.

    The collaborative similarity graphs of MoGENet, "Mixture of Graph Enhanced Expert Networks",
    with the similarity of Dual Graph Attention Networks: sim(u, v) = |N(u) ∩ N(v)| on training
    rows, nodes with more than `min_degree` neighbours, the `top_k` best whose count is above
    `min_common`.

    * Self-edges are removed.
    * Neighbours ("pivots") of a degree above `max_pivot_degree` are skipped. They count towards
      `min_degree`, but neither in the intersection nor in the sizes that normalise it.
    * `cosine` is |N(u) ∩ N(v)| / sqrt(|N(u)| |N(v)|), `jaccard` is |N(u) ∩ N(v)| / |N(u) ∪ N(v)|.
    * Ties are broken by the lower id; the graph is not made symmetric.

    Args:
        receiver_to_other: Interaction edges grouped by the nodes to link: `item_user` for the
            user graph, `user_item` for the item graph.
        measure: What the edges are ranked by and weighted with.
        min_degree: Only receivers with more neighbours than this take part.
        top_k: Edges kept per receiver.
        min_common: Only pairs with more common neighbours than this are kept, for any measure.
        max_pivot_degree: Highest degree of a neighbour that counts.
        block_rows: Receivers per unit of work. Memory beyond the input and the result is one
            counter per receiver and thread.
        progress: Show a progress bar.

    Returns:
        A square store with `weight float32`; row r lists the sources similar to r, ascending.

    Raises:
        ValueError: If a parameter is out of range or the measure is unknown.

    Example:
        >>> users = np.array([1, 1, 1, 2, 2, 2, 3])
        >>> items = np.array([1, 2, 3, 1, 2, 3, 1])
        >>> item_user = CSR.from_edges(users, items, 4, 4)
        >>> graph = build_similarity_graph(item_user, min_degree=2, min_common=1)
        >>> graph.degrees.tolist(), graph.indices.tolist(), graph.data["weight"].tolist()
        ([0, 1, 1, 0], [2, 1], [3.0, 3.0])
    """
    if measure not in _MEASURES:
        raise ValueError(f"unknown measure {measure!r}; expected one of {list(_MEASURES)}")
    for name, value, least in (
        ("min_degree", min_degree, 0),
        ("top_k", top_k, 1),
        ("min_common", min_common, 0),
        ("max_pivot_degree", max_pivot_degree, 1),
        ("block_rows", block_rows, 1),
    ):
        if value < least:
            raise ValueError(f"expected {name} of at least {least}; received {value}")

    degrees = receiver_to_other.degrees
    pivots = np.asarray(receiver_to_other.indices)
    takes_part = degrees > min_degree
    pivot_degrees = np.bincount(pivots, minlength=receiver_to_other.num_columns)
    kept = np.repeat(takes_part, degrees) & (pivot_degrees <= max_pivot_degree)[pivots]
    # Counting runs over the participants alone, renumbered, so that its counters stay in cache.
    participants = np.flatnonzero(takes_part)
    owners = np.repeat(np.cumsum(takes_part) - 1, degrees)[kept]
    indptr = np.zeros(participants.size + 1, np.int64)
    np.cumsum(np.bincount(owners, minlength=participants.size), out=indptr[1:])
    compact = CSR(indptr, pivots[kept], receiver_to_other.num_columns)
    members = compact.transpose()

    def block(first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        columns, scores, counts = _similar_rows(
            first,
            min(first + block_rows, participants.size),
            compact.indptr,
            compact.indices,
            members.indptr,
            members.indices,
            _MEASURES.index(measure),
            top_k,
            min_common,
        )
        chosen = np.arange(top_k) < counts[:, None]
        columns = participants[columns[chosen]].astype(np.int32)
        return columns, scores[chosen].astype(np.float32), counts

    firsts = range(0, participants.size, block_rows)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        blocks = list(
            track(
                threads.map(block, firsts),
                description="Similarity graph",
                total=len(firsts),
                disable=not progress,
            )
        )
    indptr = np.zeros(receiver_to_other.num_rows + 1, np.int64)
    for first, (_, _, counts) in zip(firsts, blocks, strict=True):
        indptr[participants[first : first + counts.size] + 1] = counts
    np.cumsum(indptr, out=indptr)
    indices = np.concatenate([np.zeros(0, np.int32), *(columns for columns, _, _ in blocks)])
    weight = np.concatenate([np.zeros(0, np.float32), *(scores for _, scores, _ in blocks)])
    return CSR(indptr, indices, receiver_to_other.num_rows, {"weight": weight})
