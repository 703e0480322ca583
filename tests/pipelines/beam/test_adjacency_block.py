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
