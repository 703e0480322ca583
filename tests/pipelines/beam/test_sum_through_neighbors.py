import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that

from tfmtl.pipelines.beam import AdjacencyBlock, SumThroughNeighbors, sum_through_neighbors

SCORES = np.array([0, 1, 2.5, 4], np.float32)


def squares(block):
    rows = block.rows.astype(np.float32)
    return np.stack([rows, rows**2, np.ones_like(rows)], axis=1)


@pytest.mark.parametrize(
    ("block_rows", "numbers_at_once"), [(4, 1 << 22), (1024, 1 << 22), (5, 7), (1024, 40)]
)
def test_product_with_the_transposed_matrix(monkeypatch, block_rows, numbers_at_once):
    monkeypatch.setattr(sum_through_neighbors, "_NUMBERS_AT_ONCE", numbers_at_once)
    rng = np.random.default_rng(1)
    bits = rng.integers(1, 4, [15, 23]) * (rng.random([15, 23]) < 0.3)
    bits[:, 9] = 0
    # Node 4 is a hub.
    bits[4] = 3
    rows, columns = np.nonzero(bits)
    blocks = [
        AdjacencyBlock.from_pairs(
            (rows * 23 + columns)[chosen], bits[rows, columns][chosen].astype(np.int32), 23
        )
        for chosen in (rows < 4, (rows >= 4) & (rows < 9), rows >= 9)
    ]
    numbers = np.arange(15)
    x = np.stack([numbers, numbers**2, np.ones(15)], axis=1)
    expected = SCORES[bits].T @ x

    def equal(parts):
        assert sorted(number for number, _ in parts) == list(range(-(-23 // block_rows)))
        for number, (nodes, sums) in parts:
            assert set(nodes // block_rows) == {number}
            np.testing.assert_allclose(sums, expected[nodes], rtol=1e-6)
            assert (nodes.dtype, sums.dtype) == (np.int32, np.float32)
        nodes = np.concatenate([nodes for _, (nodes, _) in parts])
        assert sorted(nodes) == list(range(23))

    with beam.Pipeline() as pipeline:
        sums = pipeline | beam.Create(blocks)
        assert_that(sums | SumThroughNeighbors(squares, SCORES, block_rows=block_rows), equal)


def test_bad_block_rows():
    with pytest.raises(ValueError, match="expected block_rows of at least 1; received 0"):
        SumThroughNeighbors(squares, SCORES, block_rows=0)
