import numpy as np

from tfmtl.pipelines.beam import AdjacencyBlock

# Pairs (4, 2), (1, 5), (4, 0) of 10 columns, out of order.
PAIRS, VALUES = np.array([42, 15, 40]), np.array([7, 8, 9], np.int32)


def test_pairs_are_grouped_by_receiver():
    block = AdjacencyBlock.from_pairs(PAIRS, VALUES, 10)
    assert block.rows.tolist() == [1, 4]
    assert block.indptr.tolist() == [0, 1, 3]
    assert block.indices.tolist() == [5, 0, 2]
    assert block.values.tolist() == [8, 9, 7]
    assert block.receivers.tolist() == [1, 4, 4]


def test_no_pairs():
    block = AdjacencyBlock.from_pairs(PAIRS[:0], VALUES[:0], 10)
    assert block.rows.size == 0
    assert block.indptr.tolist() == [0]


def test_rows_of_a_table_are_sorted_when_read():
    block = AdjacencyBlock.from_pairs(PAIRS, VALUES, 10)
    table = block.to_table()
    assert table.column_names == ["row", "columns", "values"]
    assert table.to_pylist()[1] == {"row": 4, "columns": [0, 2], "values": [9, 7]}
    read = AdjacencyBlock.from_table(table.take([1, 0]))
    for received, expected in zip(read, block, strict=True):
        assert received.tolist() == expected.tolist()
        assert received.dtype == expected.dtype


def as_lists(block):
    return [part.tolist() for part in block]


def test_split_by_ranges_of_rows_and_joined_again():
    # Rows 1, 2, 5 and 8; the ranges hold rows 0 to 2, 3 to 5 and 6 to 8.
    pairs = np.array([13, 21, 27, 54, 80, 89])
    block = AdjacencyBlock.from_pairs(pairs, np.array([3, 1, 4, 1, 5, 9], np.int32), 10)
    parts = dict(block.split(3))
    assert {number: as_lists(part) for number, part in parts.items()} == {
        0: [[1, 2], [0, 1, 3], [3, 1, 7], [3, 1, 4]],
        1: [[5], [0, 1], [4], [1]],
        2: [[8], [0, 2], [0, 9], [5, 9]],
    }
    joined = AdjacencyBlock.joined([parts[2], parts[0], parts[1]])
    assert as_lists(joined) == as_lists(block)
    assert [part.dtype for part in joined] == [part.dtype for part in block]


def test_rows_of_joined_blocks_may_alternate():
    odd = AdjacencyBlock.from_pairs(np.array([12, 35, 37]), np.array([1, 2, 3]), 10)
    even = AdjacencyBlock.from_pairs(np.array([20, 21, 49]), np.array([4, 5, 6]), 10)
    assert as_lists(AdjacencyBlock.joined([odd, even])) == [
        [1, 2, 3, 4],
        [0, 1, 3, 5, 6],
        [2, 0, 1, 5, 7, 9],
        [1, 4, 5, 2, 3, 6],
    ]


def test_store_of_a_block_has_its_rows_alone():
    store = AdjacencyBlock.from_pairs(PAIRS, VALUES, 10).to_csr(10, behavior=VALUES)
    assert store.degrees.tolist() == [1, 2]
    assert store.indices.tolist() == [5, 0, 2]
    assert store.num_columns == 10
