"""Builds the graph of similar users, or of similar items, from common interactions."""

from __future__ import annotations

from tfmtl.graph.csr import CSR
from tfmtl.graph.similarity_config import Measure
from tfmtl.graph.similarity_index import SimilarityIndex
from tfmtl.graph.similarity_neighborhoods import SimilarityNeighborhoods
from tfmtl.graph.similarity_parameters import check_similarity_parameters
from tfmtl.graph.similarity_rows import SimilarityRows


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

    Counting is exact and skips nothing below `max_pivot_degree`; `SimilarityIndex` says how hubs
    are counted without going through their pairs.

    Args:
        receiver_to_other: Interaction edges grouped by the nodes to link: `item_user` for the
            user graph, `user_item` for the item graph.
        measure: What the edges are ranked by and weighted with.
        min_degree: Only receivers with more neighbours than this take part.
        top_k: Edges kept per receiver.
        min_common: Only pairs with more common neighbours than this are kept, for any measure.
        max_pivot_degree: Highest degree of a neighbour that counts.
        block_rows: Receivers per unit of work. Memory beyond the input and the result is a copy
            of the edges, in bitmaps of at most 512 MB or as 4 bytes each, and per thread a few
            counters per receiver.
        progress: Show a progress bar.

    Returns:
        A square store with `weight float32`; row r lists the sources similar to r, ascending.

    Raises:
        ValueError: If a parameter is out of range or the measure is unknown.

    Example:
        >>> import numpy as np
        >>> users = np.array([1, 1, 1, 2, 2, 2, 3])
        >>> items = np.array([1, 2, 3, 1, 2, 3, 1])
        >>> item_user = CSR.from_edges(users, items, 4, 4)
        >>> graph = build_similarity_graph(item_user, min_degree=2, min_common=1)
        >>> graph.degrees.tolist(), graph.indices.tolist(), graph.data["weight"].tolist()
        ([0, 1, 1, 0], [2, 1], [3.0, 3.0])
    """
    check_similarity_parameters(
        measure=measure,
        min_degree=min_degree,
        top_k=top_k,
        min_common=min_common,
        max_pivot_degree=max_pivot_degree,
        block_rows=block_rows,
    )
    neighborhoods = SimilarityNeighborhoods.of(receiver_to_other, min_degree, max_pivot_degree)
    index = SimilarityIndex(neighborhoods, neighborhoods.participants, measure, min_common)
    blocks = SimilarityRows.in_blocks(
        lambda rows: index.rows(rows, top_k), neighborhoods.participants, block_rows, progress
    )
    return SimilarityRows.store(blocks, receiver_to_other.num_rows)
