"""Batches of encoded rows on disk: what sub-graphs are sampled for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfmtl.data import EncodedLog, training_dataset
from tfmtl.pipelines.beam.adjacency_shards import write_document

ROWS = "rows.json"
GROUPS = ("features", "labels", "weights")


def _feature(values: np.ndarray) -> tf.train.Feature:
    if np.issubdtype(values.dtype, np.floating):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values.ravel()))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values.ravel()))


def _examples(encoded: EncodedLog, batch_size: int, seed: int, epochs: int) -> Iterator[bytes]:
    dataset = training_dataset(encoded, batch_size=batch_size, seed=seed)
    number = 0
    for _ in range(epochs):
        for groups in dataset.as_numpy_iterator():
            fields = {"rows/number": _feature(np.array([number]))}
            for group, columns in zip(GROUPS, groups, strict=True):
                for name, values in columns.items():
                    fields[f"rows/{group}/{name}"] = _feature(values)
            yield tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()
            number += 1


def write_row_batches(
    encoded: EncodedLog,
    folder: str,
    *,
    batch_size: int,
    seed: int = 0,
    epochs: int = 1,
    batches_per_file: int = 256,
) -> int:
    """Writes the batches that `training_dataset` gives, without graphs, as TFRecords.

    A record is a `tf.train.Example` with the columns of one batch. Causal statistics depend on all
    rows, so rows are encoded on one machine and only then spread over workers.

    Args:
        encoded: Encoded training rows.
        folder: Folder for `rows-*.tfrecord` and `rows.json`.
        batch_size: Rows per batch.
        seed: Seed of the orders.
        epochs: Passes over the rows, each in another order.
        batches_per_file: Records per file; files are what workers share.

    Returns:
        Number of batches.

    Raises:
        FileExistsError: If the folder holds batches already.
        TypeError: If the rows are not training rows.
        ValueError: As `training_dataset` does, and if `epochs` or `batches_per_file` is not
            positive.

    Example:
        >>> import tempfile
        >>> one, ids = np.ones(4, np.float32), np.arange(4, dtype=np.int32)
        >>> log = EncodedLog({"user_id": ids}, {"click": one}, {"click": one}, None, None, True)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_row_batches(log, folder, batch_size=2)
        2
    """
    for name, value in (("epochs", epochs), ("batches_per_file", batches_per_file)):
        if value < 1:
            raise ValueError(f"expected {name} of at least 1; received {value}")
    if tf.io.gfile.glob(f"{folder}/rows-*.tfrecord"):
        raise FileExistsError(f"{folder} holds batches already; choose another folder")
    tf.io.gfile.makedirs(folder)
    examples = _examples(encoded, batch_size, seed, epochs)
    total = epochs * (len(encoded) // batch_size)
    for first in range(0, total, batches_per_file):
        path = f"{folder}/rows-{first:08d}.tfrecord"
        with tf.io.TFRecordWriter(f"{path}.new") as writer:
            for _ in range(min(batches_per_file, total - first)):
                writer.write(next(examples))
        tf.io.gfile.rename(f"{path}.new", path)
    columns = {
        group: {
            name: [values.dtype.name, list(values.shape[1:])]
            for name, values in getattr(encoded, group).items()
        }
        for group in GROUPS
    }
    write_document(
        folder, ROWS, {"batch_size": batch_size, "num_batches": total, "columns": columns}
    )
    return total


def parse_row_batch(
    document: dict[str, Any], serialized: tf.Tensor
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """The columns of one record.

    Args:
        document: Content of `rows.json`.
        serialized: One record, a `string` scalar.

    Returns:
        Features, labels and sample weights, each with leading dimension `batch_size`.
    """
    fields, dtypes = {}, {}
    for group, columns in document["columns"].items():
        for name, (dtype, shape) in columns.items():
            dtypes[group, name] = tf.as_dtype(dtype)
            stored = tf.float32 if dtypes[group, name].is_floating else tf.int64
            fields[f"rows/{group}/{name}"] = tf.io.FixedLenFeature(
                [document["batch_size"], *shape], stored
            )
    parsed = tf.io.parse_single_example(serialized, fields)
    features, labels, weights = (
        {
            name: tf.cast(parsed[f"rows/{group}/{name}"], dtypes[group, name])
            for name in document["columns"][group]
        }
        for group in GROUPS
    )
    return features, labels, weights
