"""Samples per second of MoGENet, and the share of an epoch that waits for its input."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfmtl.data import training_dataset
from tfmtl.graph import NeighborSampler
from tfmtl.layers import Edges
from tfmtl.models import build_model
from tfmtl.training import Experiment, PreparedData, keep_freed_memory, prepare_data

BATCH, FAN_OUTS, WARM_UP = 1024, (10, 10), 3
PYG_SCRIPT = Path(__file__).with_name("pyg_training.py")
PYG_SECONDS = 30
HYPERPARAMETERS = {
    "dim": 64,
    "embedding_dim": 64,
    "num_layers": 2,
    "expert_units": (32, 32),
    "max_neighbors": max(FAN_OUTS),
}


def _experiment(data_dir: Path | None) -> Experiment:
    dataset = (
        "{name: simulator, options: {num_users: 27000, num_items: 7500, num_rows: 1000000}}"
        if data_dir is None
        else "{name: kuairand-pure}"
    )
    return Experiment.from_yaml(
        f"{{dataset: {dataset}, graph: {{edges: all}}, model: {{name: mogenet}}}}"
    )


def _pyg(python: Path, data: PreparedData) -> dict[str, float | str]:
    """Rate of the same model in PyG, on the same rows and edges, in another Python."""
    assert data.bundle is not None
    arrays = {
        "num_users": np.array(data.bundle.num_users),
        "num_items": np.array(data.bundle.num_items),
        "rows": np.stack([data.train.features["user_id"], data.train.features["item_id"]]),
        "labels": np.stack(list(data.train.labels.values())[:2], axis=1),
    }
    for name, store in data.bundle.edge_sets.items():
        edges = Edges.from_csr(store)
        arrays[name] = np.stack([edges.source, edges.target])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        np.savez(path, **arrays)
        done = subprocess.run(
            [python, PYG_SCRIPT, path, str(PYG_SECONDS)], capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def measure(data_dir: Path | None, pyg_python: Path | None) -> dict[str, float | str]:
    """One epoch of a model of ids: three channels, two layers, d = 64, two tasks."""
    keep_freed_memory()
    experiment = _experiment(data_dir)
    data = prepare_data(experiment, data_dir=data_dir)
    schema = data.loaded.log.schema
    schema = schema.model_copy(update={"tasks": schema.tasks[:2]})
    others = [spec.name for spec in data.encoder.inputs if spec.name not in ("user_id", "item_id")]
    model = build_model("mogenet", schema, data.encoder, HYPERPARAMETERS, exclude_inputs=others)
    model.compile(
        optimizer=keras.optimizers.get(
            {"class_name": "adam", "config": {"is_legacy_optimizer": False}}
        )
    )
    model.build_weights()
    sampler = NeighborSampler(data.bundle, fan_outs=FAN_OUTS)
    iterator = iter(training_dataset(data.train, batch_size=BATCH, sample=sampler))
    steps = len(data.train) // BATCH

    @tf.function
    def step() -> tuple[tf.Tensor, tf.Tensor]:
        asked = tf.timestamp()
        with tf.control_dependencies([asked]):
            batch = next(iterator)
        with tf.control_dependencies(tf.nest.flatten(batch[1])):
            waited = tf.timestamp() - asked
        return waited, model.train_step(batch)["loss"]

    for _ in range(WARM_UP):
        step()
    start = time.perf_counter()
    waiting = sum(float(step()[0]) for _ in range(steps - WARM_UP))
    seconds = time.perf_counter() - start
    rate = (steps - WARM_UP) * BATCH / seconds
    results = {
        "train_dataset": experiment.dataset.name,
        "train_steps": steps - WARM_UP,
        "epoch_s": seconds,
        "input_wait_s": waiting,
        "input_wait_share": waiting / seconds,
        "train_samples_per_s": rate,
    }
    if pyg_python is not None:
        results |= _pyg(pyg_python, data)
        results["train_ratio_to_pyg"] = rate / results["pyg_samples_per_s"]
    return results
