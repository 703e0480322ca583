import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that

from tfmtl.graph import CSR, SimilarityConfig, build_similarity_graph
from tfmtl.pipelines.beam import AdjacencyBlock, TopKSimilarity, top_k_similarity

NUM_ROWS, NUM_PIVOTS = 60, 35


@pytest.fixture(scope="module")
def store():
    """Pivot 1 meets nearly every row; few pivots, so that many scores tie."""
    rng = np.random.default_rng(3)
    chosen = rng.random([NUM_ROWS, NUM_PIVOTS]) < 0.12
    chosen[:, 1] = rng.random(NUM_ROWS) < 0.9
    chosen[0] = chosen[:, 0] = False
    return CSR.from_edges(*np.nonzero(chosen), NUM_ROWS, NUM_PIVOTS)


def blocks_of(store, size):
    rows = np.repeat(np.arange(store.num_rows), store.degrees)
    pairs = rows * store.num_columns + store.indices
    return [
        AdjacencyBlock.from_pairs(pairs[chosen], pairs[chosen], store.num_columns)
        for first in range(0, store.num_rows, size)
        if (chosen := (rows >= first) & (rows < first + size)).any()
    ]


def check(store, config, block_rows):
    expected = build_similarity_graph(store, **config.model_dump())

    def equal(blocks):
        blocks = sorted(blocks, key=lambda block: block.rows[0])
        rows, columns, weight = (
            np.concatenate([getattr(block, name) for block in blocks] or [np.zeros(0, np.int32)])
            for name in ("receivers", "indices", "values")
        )
        np.testing.assert_array_equal(rows, np.repeat(np.arange(NUM_ROWS), expected.degrees))
        np.testing.assert_array_equal(columns, expected.indices)
        np.testing.assert_array_equal(weight, expected.data["weight"])

    with beam.Pipeline() as pipeline:
        blocks = pipeline | beam.Create(blocks_of(store, 7))
        assert_that(blocks | TopKSimilarity(NUM_ROWS, config, block_rows=block_rows), equal)
    return expected


@pytest.mark.parametrize("measure", ["count", "cosine", "jaccard"])
@pytest.mark.parametrize(
    ("max_pivot_degree", "min_common", "block_rows"), [(5000, 2, 256), (40, 1, 9)]
)
def test_same_edges_as_on_one_machine(store, measure, max_pivot_degree, min_common, block_rows):
    config = SimilarityConfig(
        measure=measure,
        min_degree=2,
        top_k=3,
        min_common=min_common,
        max_pivot_degree=max_pivot_degree,
    )
    expected = check(store, config, block_rows)
    # Some lists are full, so that a choice was made, and some are not.
    assert {1, 3} <= set(expected.degrees.tolist())


def test_pairs_of_a_pivot_come_in_steps(store, monkeypatch):
    monkeypatch.setattr(top_k_similarity, "_PAIRS_AT_ONCE", 100)
    check(store, SimilarityConfig(min_degree=0, min_common=0), 16)


def test_thresholds_that_nothing_passes(store):
    assert check(store, SimilarityConfig(min_common=30), 16).num_edges == 0


@pytest.mark.parametrize(
    ("num_rows", "block_rows", "message"),
    [
        (0, 1, "expected num_rows of at least 1; received 0"),
        (5, 0, "expected block_rows of at least 1; received 0"),
    ],
)
def test_bad_sizes(num_rows, block_rows, message):
    with pytest.raises(ValueError, match=message):
        TopKSimilarity(num_rows, SimilarityConfig(), block_rows=block_rows)
