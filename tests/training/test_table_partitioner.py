import pytest
import tensorflow as tf

from tfmtl.training.table_partitioner import TablePartitioner


@pytest.mark.parametrize(
    ("shape", "dtype", "parts"),
    [
        # 64 bytes a row: 256 KiB are 4096 rows.
        ([4 * 4096, 16], tf.float32, [3, 1]),
        ([3 * 4096, 16], tf.float32, [3, 1]),
        ([2 * 4096, 16], tf.float32, [2, 1]),
        ([4096 + 1, 16], tf.float32, [2, 1]),
        ([4096, 16], tf.float32, [1, 1]),
        # Too few rows for a table, however wide.
        ([4095, 1000], tf.float32, [1, 1]),
        ([4096, 1000], tf.float32, [3, 1]),
        ([10**6, 16], tf.int32, [1, 1]),
        ([10**6], tf.float32, [1]),
        ([10**4, 10, 10], tf.float32, [1, 1, 1]),
        ([], tf.float32, []),
    ],
)
def test_large_tables_alone_are_cut(shape, dtype, parts):
    partitioner = TablePartitioner(3)
    assert list(partitioner(tf.TensorShape(shape), dtype)) == parts
    assert [list(cut) for cut in partitioner.cut] == ([shape] if max(parts, default=1) > 1 else [])
