import numpy as np
import pytest

from tests.graph.dense_similarity import (
    dense_of,
    dense_similarity,
    edges_of,
    power_law_edges,
    store_of,
)
from tfmtl.graph.similarity_index import SimilarityIndex
from tfmtl.graph.similarity_neighborhoods import SimilarityNeighborhoods
from tfmtl.graph.similarity_rows import SimilarityRows


def found(store, measure, hubs, *, min_degree, top_k, min_common, max_pivot_degree=10**9):
    sides = SimilarityNeighborhoods.of(store, min_degree, max_pivot_degree)
    index = SimilarityIndex(sides, sides.participants, measure, min_common, hubs=hubs)
    rows = index.rows(sides.participants, top_k)
    return edges_of(SimilarityRows.store([rows], store.num_rows))


@pytest.mark.parametrize("measure", ["count", "cosine", "jaccard"])
@pytest.mark.parametrize("num_hubs", [0, 1, 5, 64, 200])
def test_any_choice_of_hubs_gives_the_brute_force_graph(measure, num_hubs):
    # 200 hubs are all pivots, those without any member too. Rows have more than 31 pivots, so
    # counts need six bits; the last 90 rows are empty.
    rng = np.random.default_rng(5)
    store = store_of(power_law_edges(rng, 90, 200, 9000), 180, 200)
    assert store.degrees.max() > 31
    by_degree = np.argsort(-store.transpose().degrees, kind="stable")
    parameters = {"min_degree": 2, "top_k": 6, "min_common": 1}
    expected = dense_similarity(dense_of(store), range(180), measure=measure, **parameters)
    assert max(map(len, expected)) == 6
    assert found(store, measure, by_degree[:num_hubs], **parameters) == expected


@pytest.mark.parametrize("measure", ["count", "cosine", "jaccard"])
def test_ties_go_to_the_lower_id(measure):
    # 300 receivers with one of two sets of pivots: every score is tied 149 times.
    pivots = np.where(np.arange(300)[:, None] % 2, [0, 1, 2], [2, 3, 4])
    store = store_of(np.sort((np.arange(300)[:, None] * 5 + pivots).ravel()), 300, 5)
    parameters = {"min_degree": 0, "top_k": 3, "min_common": 0}
    for hubs in (np.arange(0), np.arange(3), np.arange(5)):
        edges = found(store, measure, hubs, **parameters)
        assert [[column for column, _ in row] for row in edges[:4]] == [
            [2, 4, 6],
            [3, 5, 7],
            [0, 4, 6],
            [1, 5, 7],
        ]
        assert [column for column, _ in edges[299]] == [1, 3, 5]


def test_lists_that_are_not_full_take_every_column():
    # All of 200 receivers share the hub alone; each has room for 250.
    rows = np.arange(200)
    store = store_of(rows * 2, 200, 2)
    edges = found(store, "count", np.array([0]), min_degree=0, top_k=250, min_common=0)
    assert [len(row) for row in edges] == [199] * 200
    assert edges[7][7] == (8, 1.0)
    assert found(store, "count", np.array([0]), min_degree=0, top_k=9, min_common=1) == [[]] * 200


@pytest.mark.parametrize("measure", ["count", "cosine", "jaccard"])
def test_rows_find_columns_in_several_chunks(measure):
    rng = np.random.default_rng(8)
    store = store_of(power_law_edges(rng, 9000, 60, 50_000), 9000, 60)
    sides = SimilarityNeighborhoods.of(store, 0, 10**9)
    # More than one chunk of 8192 columns.
    assert sides.participants.size > 8500
    rows = sides.participants[::1500]
    parameters = {"min_degree": 0, "top_k": 20, "min_common": 2}
    expected = dense_similarity(dense_of(store), rows, measure=measure, **parameters)
    assert sum(map(len, expected)) >= 80
    # Hubs and pivots that are counted one by one together.
    index = SimilarityIndex(sides, sides.participants, measure, 2, hubs=np.arange(1, 9))
    edges = edges_of(SimilarityRows.store([index.rows(rows, 20)], 9000))
    assert [edges[row] for row in rows] == expected


def test_hubs_are_chosen_where_they_save_work():
    # Of 20 000 receivers half like item 0 and few like any other one.
    rng = np.random.default_rng(2)
    likes_hub = rng.random(20_000) < 0.5
    owners = np.arange(20_000)
    edges = np.union1d(owners[likes_hub] * 5000, owners * 5000 + rng.integers(1, 5000, 20_000))
    store = store_of(edges, 20_000, 5000)
    sides = SimilarityNeighborhoods.of(store, 0, 10**9)
    assert SimilarityIndex(sides, sides.participants, "count", 0).hubs.tolist() == [0]
    without = SimilarityNeighborhoods.of(store, 0, 5000)
    assert SimilarityIndex(without, without.participants, "count", 0).hubs.size == 0


def test_a_late_column_displaces_an_early_one():
    # All of 9000 receivers share pivot 0; the first and the last, chunks apart, share pivot 1 too.
    store = store_of(np.union1d(np.arange(9000) * 2, [1, 17_999]), 9000, 2)
    sides = SimilarityNeighborhoods.of(store, 0, 10**9)
    for hubs in ([], [0], [0, 1]):
        index = SimilarityIndex(
            sides, sides.participants, "count", 0, hubs=np.array(hubs, np.int64)
        )
        rows = index.rows(np.array([0, 5], np.int32), 2)
        assert rows.columns.tolist() == [1, 8999, 0, 1]
        assert rows.weights.tolist() == [1.0, 2.0, 1.0, 1.0]
