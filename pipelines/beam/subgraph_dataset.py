"""Batches for `model.fit` from sub-graphs on disk."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_gnn as tfgnn

from tfmtl.graph import graph_tensor_spec
from tfmtl.pipelines.beam.adjacency_shards import read_document
from tfmtl.pipelines.beam.row_batches import parse_row_batch
from tfmtl.pipelines.beam.sampling_job import SUBGRAPHS


def subgraph_dataset(folder: str, *, shuffle: int = 0, seed: int = 0) -> tf.data.Dataset:
    """Reads the batches that the sampling job wrote.

    Takes the place of `tfmtl.data.training_dataset` with a `NeighborSampler`: the same model trains
    from either.

    Args:
        folder: Folder that the sampling job wrote.
        shuffle: Batches in the shuffle buffer; every iteration has another order. 0 keeps the order
            of the files.
        seed: Seed of the shuffling.

    Returns:
        Dataset of `(features, labels, sample_weights)` of known cardinality; `features["graph"]` is
        a `GraphTensor`.

    Raises:
        FileNotFoundError: If the sampling job has not run to its end.
    """
    document = read_document(folder, SUBGRAPHS)
    spec = graph_tensor_spec(document["edge_sets"])

    def parsed(serialized: tf.Tensor) -> tuple[dict[str, Any], ...]:
        features, labels, weights = parse_row_batch(document, serialized)
        features["graph"] = tfgnn.parse_single_example(spec, serialized)
        return features, labels, weights

    paths = sorted(tf.io.gfile.glob(f"{folder}/subgraphs-*.tfrecord.gz"))
    records = tf.data.TFRecordDataset(paths, compression_type="GZIP")
    if shuffle:
        records = records.shuffle(shuffle, seed=seed)
    return (
        records.map(parsed, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .apply(tf.data.experimental.assert_cardinality(document["num_batches"]))
        .prefetch(tf.data.AUTOTUNE)
    )
