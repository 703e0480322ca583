"""Trains GRec with and without its load balance loss and plots the experts' load over the steps.

    python -m benchmarks.moe.balance --data-dir FOLDER

KuaiRand's ten flows (tasks by tab), E = 8, k = 1. Writes the loads of every step and of the
validation rows after training.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import numpy as np
import tensorflow as tf
import tf_keras as keras
import typer

from tfmtl.data.pipeline import evaluation_dataset, training_dataset
from tfmtl.layers.recording import Recording
from tfmtl.models import GRec, build_model
from tfmtl.training import Experiment, PreparedData, prepare_data

matplotlib.use("Agg")
from matplotlib import pyplot as plt

EXPERIMENT = """
dataset: {name: kuairand-pure, options: {flows: [0, 1, 2, 4]}}
statistics: {entities: [user_id, item_id, author_id], counting: out_of_fold}
model:
  name: grec
  exclude_inputs: [user_id, item_id, author_id]
  numeric_bins: 12
  hyperparameters: {task_token: late, mixer_residual: true, context_units: [256, 128], dropout: 0.2,
                    tasks_per_row: 4}
training: {batch_size: 512}
"""
WEIGHTS = (0.0, 1e-4, 1e-2)
REPORTED = ("moe_balance_loss", "moe_smallest_expert_load", "moe_largest_expert_load")


def _trained(
    data: PreparedData, weight: float, routing: str, epochs: int
) -> tuple[GRec, list[dict[str, float]]]:
    overrides = [
        f"model.hyperparameters.balance_weight={weight}",
        f"model.hyperparameters.routing={routing}",
    ]
    experiment = Experiment.from_yaml(EXPERIMENT, overrides)
    keras.utils.set_random_seed(0)
    model = build_model(
        "grec",
        data.loaded.log.schema,
        data.encoder,
        experiment.resolved()["model"]["hyperparameters"],
        exclude_inputs=experiment.model.exclude_inputs,
        numeric_bins=experiment.model.numeric_bins,
    )
    assert isinstance(model, GRec)
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    model.build_weights()
    batches = training_dataset(data.train, batch_size=experiment.training.batch_size)
    step = tf.function(model.train_step)
    steps: list[dict[str, float]] = []
    for _ in range(epochs):
        for batch in batches:
            for metric in model.metrics:
                metric.reset_state()
            logs = step(batch)
            steps.append({name: float(logs[name]) for name in REPORTED})
    return model, steps


def _validation_load(model: GRec, data: PreparedData) -> list[float]:
    """Share of the validation rows' decisions that each expert receives."""
    total, decisions = np.zeros(model.moe.num_experts), 0
    for features, *_ in evaluation_dataset(data.validation, batch_size=4096):
        with Recording() as recording:
            model(features, training=False)
        (gate,) = (gate for gate in recording.gates if gate.name.endswith("moe"))
        total += gate.weights.numpy().sum(axis=0)
        decisions += len(gate.weights)
    return (total / decisions).tolist()


def _plot(runs: dict[str, list[dict[str, float]]], path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    titles = ("load balance loss (1 is even)", "least visited expert", "most visited expert")
    for axis, name, title in zip(axes, REPORTED, titles, strict=True):
        for label, steps in runs.items():
            axis.plot([step[name] for step in steps], label=label, linewidth=1)
        axis.set(title=title, xlabel="step")
    axes[1].axhline(0.01, color="grey", linewidth=1, linestyle=":")
    axes[0].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training rows.")] = 2,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("docs/results/moe"),
) -> None:
    data = prepare_data(Experiment.from_yaml(EXPERIMENT), data_dir=data_dir)
    output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    for routing in ("task_sentence", "token"):
        runs = {}
        for weight in WEIGHTS:
            label = f"w_bal = {weight:g}"
            typer.echo(f"routing {routing}, {label} ...")
            model, runs[label] = _trained(data, weight, routing, epochs)
            load = _validation_load(model, data)
            results[f"{routing}, {label}"] = {"load": load, "smallest": min(load)}
        _plot(runs, output / f"balance_{routing}.png")
        with (output / f"balance_{routing}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["weight", "step", *REPORTED])
            for label, steps in runs.items():
                for number, step in enumerate(steps):
                    values = [f"{step[name]:.4f}" for name in REPORTED]
                    writer.writerow([label.removeprefix("w_bal = "), number, *values])
    (output / "balance.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(results))


if __name__ == "__main__":
    typer.run(main)
