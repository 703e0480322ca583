import numpy as np
import pytest

from tests.graph.dense_similarity import power_law_edges, store_of
from tfmtl.graph import CSR, build_similarity_graph, extend_similarity_graph


def assert_same(graph, expected):
    np.testing.assert_array_equal(graph.indptr, expected.indptr)
    np.testing.assert_array_equal(graph.indices, expected.indices)
    np.testing.assert_array_equal(graph.data["weight"], expected.data["weight"])


@pytest.mark.parametrize("measure", ["count", "cosine", "jaccard"])
@pytest.mark.parametrize("max_pivot_degree", [12, 10_000])
@pytest.mark.parametrize("side", ["row", "column"])
def test_day_by_day_equals_from_scratch(measure, max_pivot_degree, side):
    rng = np.random.default_rng(11)
    parameters = {
        "measure": measure,
        "min_degree": 2,
        "top_k": 4,
        "min_common": 0,
        "max_pivot_degree": max_pivot_degree,
        "block_rows": 13,
    }

    def day_store(edges):
        made = store_of(edges, 70, 90)
        return made if side == "row" else made.transpose()

    edges = power_law_edges(rng, 70, 90, 600)
    before = day_store(edges)
    graph = build_similarity_graph(before, **parameters)
    for day_edges in (3, 1, 12, 400, 0):
        edges = np.union1d(edges, power_law_edges(rng, 70, 90, day_edges))
        after = day_store(edges)
        graph = extend_similarity_graph(graph, before, after, **parameters)
        expected = build_similarity_graph(after, **parameters)
        assert expected.degrees.max() == 4
        assert_same(graph, expected)
        before = after


def test_ids_move_where_new_ones_are_inserted():
    # Rows 1 to 4 over columns 1 to 4 become rows 1, 2, 4, 5 over columns 1, 3, 4, 5.
    before = store_of(np.array([6, 7, 11, 12, 13, 16, 17, 21, 22, 24]), 5, 5)
    row_ids, column_ids = np.array([0, 1, 2, 4, 5]), np.array([0, 1, 3, 4, 5])
    old_rows, old_columns = np.divmod(np.array([6, 7, 11, 12, 13, 16, 17, 21, 22, 24]), 5)
    after = CSR.from_edges(
        np.append(row_ids[old_rows], [3, 3]), np.append(column_ids[old_columns], [1, 3]), 6, 6
    )
    parameters = {"min_degree": 1, "min_common": 1, "top_k": 2, "measure": "cosine"}
    graph = build_similarity_graph(before, **parameters)
    extended = extend_similarity_graph(
        graph, before, after, row_ids=row_ids, column_ids=column_ids, **parameters
    )
    assert_same(extended, build_similarity_graph(after, **parameters))
    # The new row 3 has the columns of row 1 and takes the place of the higher row 4 in its list.
    assert extended.indices[extended.indptr[1] : extended.indptr[2]].tolist() == [3, 4]


def test_no_new_edges_give_the_same_graph():
    rng = np.random.default_rng(3)
    before = store_of(power_law_edges(rng, 40, 30, 400), 40, 30)
    graph = build_similarity_graph(before, measure="jaccard", top_k=3)
    assert graph.num_edges > 50
    assert_same(extend_similarity_graph(graph, before, before, measure="jaccard", top_k=3), graph)


def test_refuses_what_does_not_fit():
    before = store_of(np.array([0, 1, 2, 3]), 2, 2)
    graph = build_similarity_graph(before, min_degree=0, min_common=0)
    with pytest.raises(ValueError, match="after lacks an edge that before has in its row 1"):
        extend_similarity_graph(graph, before, store_of(np.array([0, 1, 2]), 2, 2))
    with pytest.raises(ValueError, match=r"row_ids to ascend strictly within \[0, 2\)"):
        extend_similarity_graph(graph, before, before, row_ids=np.array([1, 0]))
    with pytest.raises(ValueError, match=r"column_ids of shape \[2\]"):
        extend_similarity_graph(graph, before, before, column_ids=np.array([0]))
    with pytest.raises(ValueError, match="a graph over the 2 rows of before; received 3 rows"):
        extend_similarity_graph(store_of(np.array([1]), 3, 3), before, before)
    with pytest.raises(ValueError, match="expected top_k of at least 1; received 0"):
        extend_similarity_graph(graph, before, before, top_k=0)
    crowded = build_similarity_graph(store_of(np.arange(6), 3, 2), min_degree=0, min_common=0)
    grown = store_of(np.arange(6), 3, 2)
    with pytest.raises(ValueError, match="built with top_k=1; received a row with 2 edges"):
        extend_similarity_graph(crowded, grown, grown, top_k=1)
