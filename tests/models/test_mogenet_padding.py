"""MoGENet on sub-graphs padded to a few sizes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.data import FeatureEncoder, training_dataset
from tfmtl.datasets import load
from tfmtl.graph import NeighborSampler, SimilarityConfig, SizeBuckets, build_graph_bundle
from tfmtl.models import build_model

BATCH = 32


@pytest.fixture(scope="module")
def prepared():
    loaded = load("simulator", num_users=60, num_items=40, num_rows=900)
    encoder = FeatureEncoder.fit(loaded.split.train)
    similarity = SimilarityConfig(min_degree=1, top_k=4, min_common=1)
    bundle = build_graph_bundle(loaded.split.train, encoder, similarity=similarity)
    return loaded.log.schema, encoder, encoder.encode(loaded.split.train), bundle


def loss_and_gradients(model, batch):
    features, labels, weights = batch
    with tf.GradientTape() as tape:
        logits = model(features, training=True)
        losses = [
            tf.reduce_sum(
                weights[task] * tf.nn.sigmoid_cross_entropy_with_logits(labels[task], out)
            )
            for task, out in logits.items()
        ]
        loss = tf.add_n([*losses, *model.losses])
    variables = model.trainable_variables
    gradients = tape.gradient(loss, variables)
    return logits, dict(zip([v.name for v in variables], gradients, strict=True))


@pytest.mark.parametrize("attention", ["dot", "additive"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("max_neighbors", [None, 3])
def test_padding_changes_neither_answers_nor_gradients(prepared, attention, layers, max_neighbors):
    schema, encoder, rows, bundle = prepared
    options = {
        "dim": 4,
        "embedding_dim": 4,
        "num_layers": layers,
        "attention": attention,
        "edge_behaviors": True,
        "use_edge_weight": True,
        "l2_embedding": 0.01,
        "max_neighbors": max_neighbors,
    }
    model = build_model("mogenet", schema, encoder, options)
    model.build_weights()
    fan_outs = (3,) * layers
    plain = NeighborSampler(bundle, fan_outs=fan_outs)
    buckets = SizeBuckets.fit(plain, rows, BATCH)
    padded = NeighborSampler(bundle, fan_outs=fan_outs, buckets=buckets)
    batches = [
        next(iter(training_dataset(rows, batch_size=BATCH, sample=sampler)))
        for sampler in (plain, padded)
    ]
    sizes = [batch[0]["graph"].node_sets["user"].total_size.numpy() for batch in batches]
    assert sizes[0] < sizes[1]
    (logits, gradients), (padded_logits, padded_gradients) = (
        loss_and_gradients(model, batch) for batch in batches
    )
    for task, values in logits.items():
        np.testing.assert_allclose(padded_logits[task], values, atol=1e-6)
    for name, gradient in gradients.items():
        if gradient is None:
            assert padded_gradients[name] is None
            continue
        expected, received = (
            tf.convert_to_tensor(value).numpy() for value in (gradient, padded_gradients[name])
        )
        np.testing.assert_allclose(received, expected, atol=1e-5, err_msg=name)


# MoGENet as users train it, in a process of its own: XLA reads its flags once.
PROGRAM = """
import sys
import tf_keras as keras
from tfmtl.data import FeatureEncoder, training_dataset
from tfmtl.datasets import load
from tfmtl.graph import NeighborSampler, SimilarityConfig, SizeBuckets, build_graph_bundle
from tfmtl.models import build_model

loaded = load("simulator", num_users=2000, num_items=1500, num_rows=6000)
encoder = FeatureEncoder.fit(loaded.split.train)
bundle = build_graph_bundle(
    loaded.split.train, encoder, similarity=SimilarityConfig(min_degree=1, top_k=4, min_common=1))
rows = encoder.encode(loaded.split.train)
options = {"dim": 4, "embedding_dim": 4, "num_layers": 3, "max_neighbors": 3}
model = build_model("mogenet", loaded.log.schema, encoder, options)
optimizer = {"class_name": "adam", "config": {"is_legacy_optimizer": False}}
model.compile(optimizer=keras.optimizers.get(optimizer), jit_compile=True)
plain = NeighborSampler(bundle, fan_outs=(3, 3, 3))
buckets = SizeBuckets.fit(plain, rows, 16, num_buckets=3)
sampler = NeighborSampler(bundle, fan_outs=(3, 3, 3), buckets=buckets)
batches = training_dataset(rows, batch_size=16, sample=sampler).take(10)
graphs = [features["graph"] for features, _, _ in batches]
sizes = {graph.node_sets["item"].total_size.numpy().item() for graph in graphs}
history = model.fit(batches, epochs=3, verbose=0).history["loss"]
assert history[-1] < history[0], history
print(len(sizes), len(buckets.rungs))
"""


@pytest.mark.slow
def test_xla_compiles_the_train_step_at_most_once_per_rung(tmp_path):
    """XLA writes one module before optimisation for every program that it compiles."""
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", f"import tfmtl\n{PROGRAM}"],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sizes, rungs = map(int, done.stdout.split())
    modules = [path.name for path in tmp_path.glob("*before_optimizations.txt")]
    compiled = [name for name in modules if "step" in name]
    assert 1 <= len(compiled) <= rungs, modules
    assert sizes <= rungs <= 3
