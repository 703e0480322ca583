import numpy as np
import pytest

from tfmtl.graph import CSR, build_similarity_graph


def store(rows):
    owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return CSR.from_edges(owners, np.concatenate(rows).astype(int), len(rows), 10)


# Users 1 to 5 and what they liked. Common items: 1&2 {1,2,3}, 1&3 {1,2}, 1&4 {3,4}, 2&3 {1,2},
# 2&4 {3}, 3&4 none; user 5 shares item 1 with 1, 2 and 3, but has that one item only.
LIKED = store([[], [1, 2, 3, 4], [1, 2, 3], [1, 2, 8, 9], [3, 4, 5], [1]])


def edges(graph):
    return [
        list(zip(graph.indices[a:b].tolist(), graph.data["weight"][a:b].tolist(), strict=True))
        for a, b in zip(graph.indptr[:-1], graph.indptr[1:], strict=True)
    ]


def test_counts_by_hand():
    graph = build_similarity_graph(LIKED, min_degree=2, top_k=2, min_common=1)
    # User 1: 2 (3), then 3 and 4 tie with 2 and the lower id stays. User 4 keeps 1 although 1
    # does not keep 4. User 5 has too few items to take part.
    assert edges(graph) == [
        [],
        [(2, 3.0), (3, 2.0)],
        [(1, 3.0), (3, 2.0)],
        [(1, 2.0), (2, 2.0)],
        [(1, 2.0)],
        [],
    ]
    assert graph.data["weight"].dtype == np.float32
    assert (graph.num_rows, graph.num_columns) == (6, 6)


def test_cosine_and_jaccard_by_hand():
    cosine = build_similarity_graph(LIKED, measure="cosine", min_degree=2, top_k=1, min_common=1)
    # User 1 (4 items) with 2 (3 items): 3 / sqrt(12). User 3 (4 items) with 1: 2/4, with 2:
    # 2 / sqrt(12), which is more. User 4 (3 items) with 1: 2 / sqrt(12).
    np.testing.assert_allclose(cosine.data["weight"], np.array([3, 3, 2, 2]) / 12**0.5, rtol=1e-6)
    assert cosine.indices.tolist() == [2, 1, 2, 1]
    jaccard = build_similarity_graph(LIKED, measure="jaccard", min_degree=2, top_k=1, min_common=1)
    # Unions: 1|2 4, 3|2 5, 4|1 5.
    np.testing.assert_allclose(jaccard.data["weight"], [3 / 4, 3 / 4, 2 / 5, 2 / 5], rtol=1e-6)


def test_hub_pivots_are_skipped():
    # Item 1 has four likers, items 2 and 3 three each.
    graph = build_similarity_graph(LIKED, min_degree=2, min_common=1, max_pivot_degree=3)
    assert edges(graph) == [[], [(2, 2.0), (4, 2.0)], [(1, 2.0)], [], [(1, 2.0)], []]


@pytest.mark.parametrize("measure", ["count", "cosine", "jaccard"])
@pytest.mark.parametrize("parameters", [(5, 20, 2), (30, 20, 5)])
def test_equals_dense_brute_force(measure, parameters):
    min_degree, top_k, min_common = parameters
    rng = np.random.default_rng(3)
    dense = rng.random((90, 120)) < rng.uniform(0.05, 0.6, (90, 1)) * rng.uniform(0.2, 1, 120)
    rows, columns = np.nonzero(dense)
    liked = CSR.from_edges(rows, columns, 90, 120)
    graph = build_similarity_graph(
        liked,
        measure=measure,
        min_degree=min_degree,
        top_k=top_k,
        min_common=min_common,
        max_pivot_degree=25,
        block_rows=7,
    )
    takes_part = dense.sum(1) > min_degree
    kept = dense[:, dense.sum(0) <= 25]
    assert 60 < kept.shape[1] < 120
    common = (kept.astype(int) @ kept.T.astype(int)).astype(float)
    sizes = kept.sum(1)
    expected = []
    for u in range(90):
        scored = [
            (
                {
                    "count": common[u, v],
                    "cosine": common[u, v] / max(sizes[u] * sizes[v], 1) ** 0.5,
                    "jaccard": common[u, v] / max(sizes[u] + sizes[v] - common[u, v], 1),
                }[measure],
                -v,
            )
            for v in range(90)
            if u != v and takes_part[u] and takes_part[v] and common[u, v] > min_common
        ]
        best = sorted(scored, reverse=True)[:top_k]
        expected.append(sorted((-v, float(np.float32(score))) for score, v in best))
    assert sum(map(len, expected)) > 200
    assert max(map(len, expected)) == top_k
    assert edges(graph) == expected


def test_no_participants_gives_an_empty_graph():
    graph = build_similarity_graph(LIKED, min_degree=30, top_k=20, min_common=5)
    assert graph.degrees.tolist() == [0] * 6
    assert graph.data["weight"].dtype == np.float32


def test_progress_bar_leaves_the_result_alone(capsys):
    graph = build_similarity_graph(LIKED, min_degree=2, min_common=1, progress=True)
    assert graph.num_edges == 8
    assert "Similarity graph" in capsys.readouterr().out


def test_refuses_bad_parameters():
    with pytest.raises(ValueError, match=r"unknown measure 'dice'; expected one of \['count'"):
        build_similarity_graph(LIKED, measure="dice")
    with pytest.raises(ValueError, match="expected top_k of at least 1; received 0"):
        build_similarity_graph(LIKED, top_k=0)
    with pytest.raises(ValueError, match="expected min_degree of at least 0; received -1"):
        build_similarity_graph(LIKED, min_degree=-1)
