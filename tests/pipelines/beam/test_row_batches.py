import numpy as np
import pytest
import tensorflow as tf

from tfmtl.data import EncodedLog, training_dataset
from tfmtl.pipelines.beam import write_row_batches
from tfmtl.pipelines.beam.adjacency_shards import read_document
from tfmtl.pipelines.beam.row_batches import ROWS, parse_row_batch


@pytest.fixture(scope="module")
def encoded():
    rng = np.random.default_rng(0)
    features = {
        "user_id": np.arange(10, dtype=np.int32),
        "words": rng.integers(0, 9, [10, 3]).astype(np.int32),
        "statistics": rng.random([10, 2]).astype(np.float32),
    }
    labels = {"click": rng.integers(0, 2, 10).astype(np.float32)}
    weights = {"click": np.ones(10, np.float32)}
    return EncodedLog(features, labels, weights, None, None, True)


def test_batches_are_those_of_the_training_dataset(encoded, tmp_path):
    folder = str(tmp_path / "rows")
    number = write_row_batches(encoded, folder, batch_size=3, seed=4, epochs=2, batches_per_file=4)
    assert number == 6
    document = read_document(folder, ROWS)
    paths = sorted(tf.io.gfile.glob(f"{folder}/rows-*.tfrecord"))
    assert [path[-17:] for path in paths] == ["00000000.tfrecord", "00000004.tfrecord"]
    dataset = training_dataset(encoded, batch_size=3, seed=4)
    expected = [*dataset, *dataset]
    received = [parse_row_batch(document, record) for record in tf.data.TFRecordDataset(paths)]
    for groups, expected_groups in zip(received, expected, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, groups, expected_groups)
        assert tf.nest.map_structure(lambda x: x.dtype, groups) == tf.nest.map_structure(
            lambda x: x.dtype, expected_groups
        )


def test_second_run_into_one_folder(encoded, tmp_path):
    write_row_batches(encoded, str(tmp_path), batch_size=5)
    with pytest.raises(FileExistsError, match="holds batches already; choose another folder"):
        write_row_batches(encoded, str(tmp_path), batch_size=5)


@pytest.mark.parametrize("name", ["epochs", "batches_per_file"])
def test_bad_numbers(encoded, tmp_path, name):
    with pytest.raises(ValueError, match=f"expected {name} of at least 1; received 0"):
        write_row_batches(encoded, str(tmp_path), batch_size=5, **{name: 0})
