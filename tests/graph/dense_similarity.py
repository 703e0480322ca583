"""Similarity graphs by brute force, from the definition."""

import numpy as np

from tfmtl.graph import CSR


def power_law_edges(rng, num_rows, num_columns, num_edges):
    """Distinct edges as `row * num_columns + column`; low columns are hubs."""
    rows = rng.integers(0, num_rows, num_edges)
    columns = rng.zipf(1.4, num_edges) % num_columns
    return np.unique(rows * num_columns + columns)


def store_of(edges, num_rows, num_columns):
    rows, columns = np.divmod(edges, num_columns)
    return CSR.from_edges(rows, columns, num_rows, num_columns)


def dense_of(store):
    dense = np.zeros((store.num_rows, store.num_columns), bool)
    dense[np.repeat(np.arange(store.num_rows), store.degrees), store.indices] = True
    return dense


def dense_similarity(
    dense, rows, *, measure="count", min_degree, top_k, min_common, max_pivot_degree=10**9
):
    """Edges of `rows`: lists of (column, float32 weight) by ascending column."""
    takes_part = dense.sum(1) > min_degree
    counted = dense[:, dense.sum(0) <= max_pivot_degree].astype(np.float64)
    sizes = counted.sum(1)
    result = []
    for row in rows:
        common = counted @ counted[row]
        score = common.copy()
        if measure == "cosine":
            score /= np.sqrt(np.maximum(sizes * sizes[row], 1))
        elif measure == "jaccard":
            score /= np.maximum(sizes + sizes[row] - common, 1)
        rivals = takes_part & (common > min_common) & takes_part[row]
        rivals[row] = False
        rivals = np.flatnonzero(rivals)
        best = rivals[np.lexsort((rivals, -score[rivals]))[:top_k]]
        result.append([(int(v), float(np.float32(score[v]))) for v in np.sort(best)])
    return result


def edges_of(store):
    return [
        list(zip(store.indices[a:b].tolist(), store.data["weight"][a:b].tolist(), strict=True))
        for a, b in zip(store.indptr[:-1], store.indptr[1:], strict=True)
    ]
