"""Similarity graphs of the power-law graph, beside a blocked SciPy product."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import scipy.sparse

from benchmarks.graph.synthetic_graph import random_bundle
from tfmtl.graph import CSR, build_similarity_graph

TOP_K, LEAST_COMMON = 20, 5
BLOCK = 2048
SAMPLED_ROWS = 300
ITEM_ROUNDS = 5


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


def _graph(store: CSR) -> CSR:
    return build_similarity_graph(
        store,
        min_degree=0,
        top_k=TOP_K,
        min_common=LEAST_COMMON - 1,
        max_pivot_degree=store.num_edges,
    )


def _by_dot_topn(matrix: scipy.sparse.csr_matrix) -> None:
    from sparse_dot_topn import sp_matmul_topn

    sp_matmul_topn(
        matrix,
        matrix.T.tocsr(),
        top_n=TOP_K + 1,
        threshold=LEAST_COMMON - 0.5,
        n_threads=len(os.sched_getaffinity(0)),
    )


def _seconds(action: Callable[[], object], rounds: int) -> float:
    """Median over some rounds."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure() -> dict[str, float | None]:
    """Seconds per side, their ratios, and whether a sample of rows is as SciPy says."""
    bundle = random_bundle(power_law=True, merged=True)
    results: dict[str, float | None] = {"similarity_pairs": bundle.edge_sets["user_item"].num_edges}
    # The first call compiles.
    _graph(CSR.from_edges(np.array([1, 2]), np.array([1, 1]), 3, 3))
    for side, edge_set, prefix, rounds in (
        ("item", "user_item", "", ITEM_ROUNDS),
        ("user", "item_user", "user_", 1),
    ):
        store = bundle.edge_sets[edge_set]
        matrix = _matrix(store)
        graph = _graph(store)
        sample = np.random.default_rng(2).choice(store.num_rows, SAMPLED_ROWS, replace=False)
        for row, expected in _by_scipy(matrix, sample).items():
            found = graph.indices[graph.indptr[row] : graph.indptr[row + 1]].tolist()
            if found != expected:
                raise AssertionError(f"{side} {row}: found {found}, expected {expected}")
        seconds = _seconds(partial(_graph, store), max(rounds, 3))
        results[f"{prefix}similarity_s"] = seconds
        results[f"{prefix}similarity_edges"] = graph.num_edges
        if find_spec("sparse_dot_topn") is not None:
            dot_topn = _seconds(partial(_by_dot_topn, matrix), rounds)
            results[f"{prefix}dot_topn_s"] = dot_topn
            results[f"{prefix}similarity_ratio_to_dot_topn"] = dot_topn / seconds
        if side == "item":
            scipy_seconds = _seconds(
                partial(_by_scipy, matrix, np.arange(store.num_rows)), ITEM_ROUNDS
            )
            results["scipy_s"] = scipy_seconds
            results["similarity_speedup"] = scipy_seconds / seconds
    results["user_similarity_speedup"] = results.get("user_similarity_ratio_to_dot_topn")
    return results
