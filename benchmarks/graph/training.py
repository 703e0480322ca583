"""Samples per second of MoGENet, and the share of an epoch that waits for its input."""

from __future__ import annotations

import time
from pathlib import Path

import tensorflow as tf
import tf_keras as keras

from tfmtl.data import training_dataset
from tfmtl.graph import NeighborSampler
from tfmtl.models import build_model
from tfmtl.training import Experiment, keep_freed_memory, prepare_data

BATCH, FAN_OUTS, WARM_UP = 1024, (10, 10), 3
PYG_SAMPLES_PER_SECOND = 890
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


def measure(data_dir: Path | None) -> dict[str, float | str]:
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
    dataset = training_dataset(data.train, batch_size=BATCH, sample=sampler)
    step = tf.function(model.train_step, input_signature=[dataset.element_spec])
    iterator = iter(dataset)
    for _ in range(WARM_UP):
        step(next(iterator))
    waiting, steps = 0.0, 0
    start = time.perf_counter()
    while True:
        asked = time.perf_counter()
        batch = next(iterator, None)
        waiting += time.perf_counter() - asked
        if batch is None:
            break
        float(step(batch)["loss"])
        steps += 1
    seconds = time.perf_counter() - start
    return {
        "train_dataset": experiment.dataset.name,
        "epoch_s": seconds,
        "input_wait_s": waiting,
        "input_wait_share": waiting / seconds,
        "train_samples_per_s": steps * BATCH / seconds,
        "train_ratio_to_pyg": steps * BATCH / seconds / PYG_SAMPLES_PER_SECOND,
    }
