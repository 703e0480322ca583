"""Kills a run at random moments and starts it again; the last line is one JSON object.

    python -m benchmarks.resume --kills 20

trains a MoGENet on some users of MovieLens-1M undisturbed, and again in a process that is sent
SIGKILL, each time a short random while after a random step, and started again with `resume`. All
that the last and the best checkpoints hold, weights, optimiser and generators, and the history are
then compared bit for bit.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tensorflow as tf
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tfmtl.cli import commands
from tfmtl.training import Experiment, RunFolder, TrainingState

EXPERIMENT = """
dataset: {name: movielens-1m, options: {max_users: 300}}
statistics: {entities: [user_id, item_id], counting: out_of_fold}
graph: {fan_out: [10]}
model:
  name: mogenet
  numeric_bins: 12
  hyperparameters:
    {dim: 16, num_layers: 1, edge_behaviors: true, expert_units: [32], tower_units: [16],
     dropout: 0.2, l2: 1.0e-6}
training:
  {batch_size: 256, epochs: 3, learning_rate: 0.002, learning_rate_schedule: linear,
   monitor: auc, checkpoint_every: 10}
"""
# Long enough for some kills to fall into the writing of a checkpoint.
LONGEST_WAIT = 0.05
_STEP = "step "
_NOT_COMPARED = ("_CHECKPOINTABLE_OBJECT_GRAPH", "seconds/")


class _Told(TrainingState):
    """Prints every step that has been made, before it is saved."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        done = self._first_step + batch + 1
        print(f"{_STEP}{int(self.epochs_done)} {done}", flush=True)
        super().on_train_batch_end(batch, logs)


def main(
    kills: Annotated[int, typer.Option(min=1, help="Times that the process is killed.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the moments.")] = 0,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/resume"),
    child: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    if child is not None:
        # The module of that name, not the function that the package offers under it.
        sys.modules["tfmtl.training.train"].TrainingState = _Told  # type: ignore[attr-defined]
        commands.train(output / "experiment.yaml", child, data_dir=data_dir, resume=True)
        return
    console = Console(stderr=True)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    (output / "experiment.yaml").write_text(EXPERIMENT, encoding="utf-8")
    arguments = ["--output", str(output), *(["--data-dir", str(data_dir)] if data_dir else [])]
    whole, interrupted = output / "undisturbed", output / "killed"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    began = time.perf_counter()
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        undisturbed = progress.add_task("undisturbed, steps", total=None)
        positions = []
        process = _started(whole, arguments)
        for position in _steps(process):
            positions.append(position)
            progress.advance(undisturbed)
        _check(process, whole)
        steps = len(positions)
        progress.update(undisturbed, total=steps)
        bar = progress.add_task("kills", total=kills)
        generator = random.Random(seed)
        killed_at = []
        for target in sorted(generator.sample(positions[:-1], min(kills, steps - 1))):
            process = _started(interrupted, arguments)
            reached = None
            for position in _steps(process):
                if reached is None and position >= target:
                    time.sleep(generator.uniform(0, LONGEST_WAIT))
                    process.kill()
                # What it told before it died may be further on.
                reached = position if reached or position >= target else None
            if reached is None or process.wait() != -signal.SIGKILL:
                _check(process, interrupted)
                break
            killed_at.append([reached[0] + 1, reached[1]])
            progress.advance(bar)
        last = progress.add_task("to the end, steps", total=None)
        process = _started(interrupted, arguments)
        for _ in _steps(process):
            progress.advance(last)
        _check(process, interrupted)
    results = {
        "model": Experiment.from_yaml(EXPERIMENT).model.name,
        "dataset": "movielens-1m",
        "steps": steps,
        "kills": len(killed_at),
        # Epoch and step, counted from 1, of the last step that the process told before it died.
        "killed_at": killed_at,
        "seconds": round(time.perf_counter() - began, 1),
        **compared(whole, interrupted),
    }
    typer.echo(json.dumps(results))


def compared(one: Path, other: Path) -> dict[str, Any]:
    """What differs between two finished runs."""
    differences, unequal, count = [0.0], [], 0
    for kind in ("last", "best"):
        first, second = (_variables(run, kind) for run in (one, other))
        if first.keys() != second.keys():
            unequal += [f"{kind}/{name}" for name in first.keys() ^ second.keys()]
        for name in first.keys() & second.keys():
            count += 1
            if first[name].tobytes() != second[name].tobytes():
                unequal.append(f"{kind}/{name}")
                differences.append(
                    float(np.max(np.abs(np.subtract(first[name], second[name], dtype=np.float64))))
                )
    return {
        "variables": count,
        "equal": not unequal,
        "unequal": sorted(unequal)[:10],
        "max_abs_difference": max(differences),
        "equal_histories": _history(one) == _history(other),
    }


def _started(folder: Path, arguments: list[str]) -> subprocess.Popen[str]:
    log = folder.with_suffix(".log").open("a", encoding="utf-8")
    with log:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.resume", *arguments, "--child", str(folder)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def _steps(process: subprocess.Popen[str]) -> Iterator[tuple[int, int]]:
    """Epoch and steps in it, after every step of the process."""
    assert process.stdout is not None
    for line in process.stdout:
        # The last line of a killed process may lack its end.
        if line.startswith(_STEP) and line.endswith("\n"):
            epoch, step = map(int, line.removeprefix(_STEP).split())
            yield epoch, step


def _check(process: subprocess.Popen[str], folder: Path) -> None:
    if process.wait() != 0:
        raise RuntimeError(f"the run ended with {process.returncode}: see {folder}.log")


def _variables(run: Path, kind: str) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(RunFolder(run).checkpoints / kind))
    return {
        name: np.asarray(reader.get_tensor(name))
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(_NOT_COMPARED)
    }


def _history(run: Path) -> list[dict[str, str]]:
    with RunFolder(run).history.open(newline="", encoding="utf-8") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


if __name__ == "__main__":
    typer.run(main)
