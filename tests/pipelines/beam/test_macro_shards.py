import numpy as np
import pyarrow.parquet as pq
import pytest

from tfmtl.graph.macro_groups import Groups
from tfmtl.pipelines.beam.adjacency_shards import write_document
from tfmtl.pipelines.beam.macro_shards import (
    GROUPS,
    SharedGroups,
    macro_row_schema,
    macro_row_table,
    read_centers,
    read_groups,
    read_macro_rows,
    write_groups,
)

ROWS = (
    np.array([2, 5], np.int32),
    np.array([[0.5, 1, 0], [0, 7, 2.25]], np.float16),
    np.array([[4, 0], [3, 1]], np.int32),
    np.array([[257, 0], [1, 2]], np.uint16),
)


def test_rows_of_a_shard(tmp_path):
    # Nine tasks need 16 bits.
    table = macro_row_table(ROWS, macro_row_schema(3, 2, 9))
    pq.write_table(table, tmp_path / "item_rows-00000-of-00001.parquet")
    (received,) = read_macro_rows(str(tmp_path), "item")
    for left, right in zip(received, ROWS, strict=True):
        np.testing.assert_array_equal(left, right)
        assert left.dtype == right.dtype
    assert table.to_pylist()[1] == {
        "row": 5,
        "macro": [0, 7, 2.25],
        "recent": [3, 1],
        "behaviors": [1, 2],
    }


def test_missing_rows(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no shards .*user_rows-\*\.parquet; run the macro"
    ):
        next(read_macro_rows(str(tmp_path), "user"))


def test_groups_of_both_sides(tmp_path):
    centers = np.array([[1, 0.5], [0, 1], [0.25, 2]], np.float32)
    users = Groups(np.array([0, 2, 1], np.int32), np.array([0, 1, 0.5], np.float32), 3, centers)
    # Categories have no centres.
    items = Groups(np.array([0, 4], np.int32), np.array([0, 0.25], np.float32), 6)
    folder = str(tmp_path)
    for side, groups in (("user", items), ("user", users), ("item", items)):
        # A step that is tried again writes again.
        write_groups(groups, folder, side)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "item_groups.npy",
        "item_weights.npy",
        "user_centers.npy",
        "user_groups.npy",
        "user_weights.npy",
    ]
    write_document(folder, GROUPS, {"counts": {"user": 3, "item": 6}})
    received = read_groups(folder)
    for left, right in ((received.user, users), (received.item, items)):
        np.testing.assert_array_equal(left.numbers, right.numbers)
        np.testing.assert_array_equal(left.weights, right.weights)
        assert left.count == right.count
    np.testing.assert_array_equal(read_centers(folder, "user"), centers)
    shared = SharedGroups(folder)
    assert shared.read() is shared.read()
