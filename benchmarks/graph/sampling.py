"""Seeds per second of the neighbour sampler, beside TF-GNN's in-memory sampler.

Both run in `tf.data` and are consumed as `model.fit` consumes them, by a TensorFlow function that
pulls from the iterator. Every interaction is an edge of its own, so that the most popular item of
the power-law graph has more than a million.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_gnn as tfgnn
from tensorflow_gnn.experimental import sampler as tfgnn_sampler
from tensorflow_gnn.sampler import sampling_spec_builder

from benchmarks.graph.synthetic_graph import NUM_ITEMS, NUM_USERS, random_bundle
from tfmtl.graph import GraphBundle, NeighborSampler

FAN_OUTS = (10, 10)
BATCH = 1024
SECONDS = 4.0
WARM_UP, STRIDE = 3, 5
ROUNDS = 3


def _rows() -> tf.data.Dataset:
    def draw(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def ids(side: int, size: int) -> tf.Tensor:
            seed = tf.stack([tf.constant(side, tf.int64), step])
            return tf.random.stateless_uniform([BATCH], seed, 1, size + 1, tf.int32)

        return ids(0, NUM_USERS), ids(1, NUM_ITEMS)

    return tf.data.Dataset.range(2**40).map(draw)


def _seeds_per_second(dataset: tf.data.Dataset) -> float:
    """Users and items that were expanded per second, two of them a row."""
    dataset = dataset.prefetch(2)
    iterator = iter(dataset)

    @tf.function
    def consume(batches: tf.Tensor) -> None:
        for _ in tf.range(batches):
            next(iterator)

    consume(tf.constant(WARM_UP))
    start, batches = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        consume(tf.constant(STRIDE))
        batches += STRIDE
    return 2 * BATCH * batches / (time.perf_counter() - start)


def _ours(bundle: GraphBundle) -> tf.data.Dataset:
    sampler = NeighborSampler(
        bundle, fan_outs=FAN_OUTS, channels=("interaction",), mask_own_edges=False
    )

    def sample(step: tf.Tensor, row: tuple[tf.Tensor, tf.Tensor]) -> tfgnn.GraphTensor:
        return sampler({"user_id": row[0], "item_id": row[1]}, step)

    return _rows().enumerate().map(sample, num_parallel_calls=2)


def _tfgnn(bundle: GraphBundle) -> tf.data.Dataset:
    schema = tfgnn.GraphSchema()
    sizes = {"user": bundle.num_users, "item": bundle.num_items}
    for name in sizes:
        schema.node_sets[name].SetInParent()
    samplers: dict[str, Any] = {}
    # A store lists the sources that a receiver aggregates: TF-GNN walks from the receiver.
    for edge_set, walker, found in (("item_user", "user", "item"), ("user_item", "item", "user")):
        schema.edge_sets[edge_set].source = walker
        schema.edge_sets[edge_set].target = found
        store = bundle.edge_sets[edge_set]
        samplers[edge_set] = (
            sizes[walker],
            np.repeat(np.arange(store.num_rows, dtype=np.int32), store.degrees),
            np.asarray(store.indices),
        )

    def edge_sampler(operation: Any) -> Any:
        num_nodes, source, target = samplers[operation.edge_set_name]
        return tfgnn_sampler.InMemUniformEdgesSampler(
            num_source_nodes=num_nodes,
            source=tf.constant(source),
            target=tf.constant(target),
            seed=42,
            sample_size=operation.sample_size,
            name=operation.edge_set_name,
        )

    pipelines = []
    for seed, first, second in (
        ("user", "item_user", "user_item"),
        ("item", "user_item", "item_user"),
    ):
        specification = _specification(schema, seed, first, second)
        pipelines.append(
            tfgnn_sampler.create_sampling_model_from_spec(
                schema, specification, edge_sampler, seed_node_dtype=tf.int32
            )
        )

    def sample(users: tf.Tensor, items: tf.Tensor) -> tuple[tfgnn.GraphTensor, ...]:
        return tuple(
            pipeline(tf.RaggedTensor.from_tensor(ids[:, tf.newaxis])).merge_batch_to_components()
            for pipeline, ids in zip(pipelines, (users, items), strict=True)
        )

    return _rows().map(sample, num_parallel_calls=2)


def _specification(schema: Any, seed: str, first: str, second: str) -> Any:
    """Fan-outs `FAN_OUTS` from nodes of the set `seed`."""
    builder = sampling_spec_builder.SamplingSpecBuilder(
        schema, default_strategy=sampling_spec_builder.SamplingStrategy.RANDOM_UNIFORM
    )
    return builder.seed(seed).sample(FAN_OUTS[0], first).sample(FAN_OUTS[1], second).build()


def measure() -> dict[str, float]:
    """Median rates over the uniform and the power-law graph, measured in turn."""
    uniform = random_bundle(power_law=False, merged=False)
    power_law = random_bundle(power_law=True, merged=False)
    pipelines = {
        "sampler": _ours(uniform),
        "power_law": _ours(power_law),
        "tfgnn": _tfgnn(uniform),
    }
    rounds = [
        {name: _seeds_per_second(pipeline) for name, pipeline in pipelines.items()}
        for _ in range(ROUNDS)
    ]
    rates = {name: float(np.median([own[name] for own in rounds])) for name in pipelines}
    ratios = [own["sampler"] / own["tfgnn"] for own in rounds]
    return {
        "sampler_seeds_per_s": rates["sampler"],
        "tfgnn_seeds_per_s": rates["tfgnn"],
        "sampler_ratio": float(np.median(ratios)),
        "sampler_ratio_least": min(ratios),
        "sampler_ratio_most": max(ratios),
        "sampler_seeds_per_s_power_law": rates["power_law"],
        "skew_penalty": float(np.median([own["sampler"] / own["power_law"] for own in rounds])),
        "largest_degree": int(power_law.edge_sets["user_item"].degrees.max()),
    }
