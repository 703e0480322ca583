"""Similarity graphs of the power-law graph, beside a blocked SciPy product."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec

import numpy as np
import scipy.sparse

from benchmarks.graph.synthetic_graph import random_bundle
from tfmtl.graph import CSR, build_similarity_graph

TOP_K, LEAST_COMMON = 20, 5
BLOCK = 2048
SAMPLED_ROWS = 300


def _matrix(store: CSR) -> scipy.sparse.csr_matrix:
    values = np.ones(store.num_edges, np.float32)
    shape = (store.num_rows, store.num_columns)
    return scipy.sparse.csr_matrix((values, store.indices, store.indptr), shape=shape)


def _best(row: int, columns: np.ndarray, counts: np.ndarray) -> list[int]:
    kept = (counts >= LEAST_COMMON) & (columns != row)
    columns, counts = columns[kept], counts[kept]
    return sorted(columns[np.lexsort((columns, -counts))[:TOP_K]].tolist())


def _by_scipy(matrix: scipy.sparse.csr_matrix, rows: np.ndarray) -> dict[int, list[int]]:
    transposed = matrix.T.tocsr()
    best = {}
    for first in range(0, rows.size, BLOCK):
        product = (matrix[rows[first : first + BLOCK]] @ transposed).tocsr()
        for place, row in enumerate(rows[first : first + BLOCK].tolist()):
            part = slice(product.indptr[place], product.indptr[place + 1])
            best[row] = _best(row, product.indices[part], product.data[part])
    return best


def _graph(store: CSR) -> tuple[CSR, float]:
    start = time.perf_counter()
    graph = build_similarity_graph(
        store,
        min_degree=0,
        top_k=TOP_K,
        min_common=LEAST_COMMON - 1,
        max_pivot_degree=store.num_edges,
    )
    return graph, time.perf_counter() - start


def _by_dot_topn(matrix: scipy.sparse.csr_matrix) -> float | None:
    if find_spec("sparse_dot_topn") is None:
        return None
    from sparse_dot_topn import sp_matmul_topn

    start = time.perf_counter()
    sp_matmul_topn(
        matrix,
        matrix.T.tocsr(),
        top_n=TOP_K + 1,
        threshold=LEAST_COMMON - 0.5,
        n_threads=len(os.sched_getaffinity(0)),
    )
    return time.perf_counter() - start


def measure() -> dict[str, float | None]:
    """Seconds per side, their ratios, and whether a sample of rows is as SciPy says."""
    bundle = random_bundle(power_law=True, merged=True)
    results: dict[str, float | None] = {}
    for side, edge_set, prefix in (
        ("item", "user_item", ""),
        ("user", "item_user", "user_"),
    ):
        store = bundle.edge_sets[edge_set]
        matrix = _matrix(store)
        # The first call compiles.
        _graph(CSR.from_edges(np.array([1, 2]), np.array([1, 1]), 3, 3))
        graph, seconds = _graph(store)
        random = np.random.default_rng(2)
        sample = random.choice(store.num_rows, SAMPLED_ROWS, replace=False)
        for row, expected in _by_scipy(matrix, sample).items():
            found = graph.indices[graph.indptr[row] : graph.indptr[row + 1]].tolist()
            if found != expected:
                raise AssertionError(f"{side} {row}: found {found}, expected {expected}")
        results[f"{prefix}similarity_s"] = seconds
        results[f"{prefix}similarity_edges"] = graph.num_edges
        dot_topn = _by_dot_topn(matrix)
        results[f"{prefix}dot_topn_s"] = dot_topn
        if side == "item":
            start = time.perf_counter()
            _by_scipy(matrix, np.arange(store.num_rows))
            scipy_seconds = time.perf_counter() - start
            results["scipy_s"] = scipy_seconds
            results["similarity_speedup"] = scipy_seconds / seconds
        elif dot_topn is not None:
            results["user_similarity_speedup"] = dot_topn / seconds
    return results
