import tensorflow as tf

from tests.layers.test_macro_graph_bottom import macro_rows
from tfmtl.layers import MacroRows


def test_rows_go_through_a_dataset_and_keep_their_names():
    rows = macro_rows(6)
    batch = next(iter(tf.data.Dataset.from_tensor_slices(rows).batch(4)))
    assert isinstance(batch, MacroRows)
    for name, part in batch._asdict().items():
        tf.debugging.assert_equal(part, getattr(rows, name)[:4], message=name)
