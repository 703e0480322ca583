"""One process against two workers and a parameter server cluster; the last line is JSON.

    python -m benchmarks.distribution

trains an MMoE three times on this machine, with the same seed: in one process; in two workers that
share out the rows of every step (`multi_worker`); in two workers that take whole steps from a chief
and keep the weights on two servers (`parameter_server`). Every process writes down the rows that it
takes. Losses are those of the training rows, per epoch; differences are relative to the one
process. Two workers differ from it by rounding alone, workers of a chief by not waiting for each
other. The plot goes to `docs/results/distribution`.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

EXPERIMENT = """
dataset:
  name: simulator
  options: {num_users: 2000, num_items: 1000, num_rows: 120000}
statistics: {entities: [user_id, item_id]}
model:
  name: mmoe
  hyperparameters: {embedding_dim: 16, num_experts: 4, expert_units: [64], tower_units: [32]}
training: {batch_size: 512, epochs: 5, optimizer: lazy_adam, monitor: auc, patience: 5}
"""
# The simulator's own, or MovieLens' where there is a copy.
MOVIELENS = "dataset={name: movielens-1m}"
JOBS: dict[str, dict[str, int]] = {
    "none": {"chief": 1},
    "multi_worker": {"worker": 2},
    "parameter_server": {"ps": 2, "worker": 2, "chief": 1},
}
LABELS = {
    "none": "one process",
    "multi_worker": "2 workers",
    "parameter_server": "chief, 2 workers, 2 servers",
}
_LOOK_EVERY = 0.5


def main(
    movielens: Annotated[bool, typer.Option(help="Train on MovieLens-1M instead.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of its data.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/distribution"),
    plot: Annotated[Path, typer.Option(help="Picture to write.")] = Path(
        "docs/results/distribution/losses.png"
    ),
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    chosen = [*([MOVIELENS] if movielens else []), *(settings or [])]
    if child is not None:
        _train(output, child, data_dir, chosen)
        return
    console = Console(stderr=True)
    shutil.rmtree(output, ignore_errors=True)
    curves: dict[str, list[float]] = {}
    seconds, taken = {}, {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        for strategy in JOBS:
            folder = output / strategy
            bar = progress.add_task(f"{LABELS[strategy]}, epochs", total=None)
            began = time.perf_counter()
            _run(
                folder,
                strategy,
                data_dir,
                chosen,
                lambda done, bar=bar: progress.update(bar, completed=done),
            )
            seconds[strategy] = round(time.perf_counter() - began, 1)
            history = _history(folder)
            curves[strategy] = [float(row["loss"]) for row in history]
            taken[strategy] = rows_taken(folder, len(history))
            progress.update(bar, total=len(history), completed=len(history))
    table = Table("epoch", *(LABELS[strategy] for strategy in JOBS), title="training loss")
    for epoch, values in enumerate(zip(*curves.values(), strict=True), start=1):
        table.add_row(str(epoch), *(f"{value:.5f}" for value in values))
    Console().print(table)
    _plot(curves, plot)
    others = [strategy for strategy in JOBS if strategy != "none"]
    misses = {strategy: misplaced(taken[strategy], taken["none"]) for strategy in others}
    results = {
        "dataset": "movielens-1m" if movielens else "simulator",
        "losses": curves,
        "seconds": seconds,
        **{
            f"max_loss_difference_{strategy}": _difference(curves[strategy], curves["none"])
            for strategy in others
        },
        "rows_per_epoch": sum(taken["none"][0].values()),
        "rows_twice": sum(twice for twice, _ in misses.values()),
        "rows_left_out": sum(left_out for _, left_out in misses.values()),
    }
    typer.echo(json.dumps(results))


def misplaced(taken: list[Counter[int]], expected: list[Counter[int]]) -> tuple[int, int]:
    """Rows that epochs of a run have more often, and less often, than those of another."""
    twice = sum((own - whole).total() for own, whole in zip(taken, expected, strict=True))
    left_out = sum((whole - own).total() for own, whole in zip(taken, expected, strict=True))
    return twice, left_out


def rows_taken(folder: Path, epochs: int) -> list[Counter[int]]:
    """How often each row was taken in each epoch, by all processes of a run together."""
    counts: list[Counter[int]] = [Counter() for _ in range(epochs)]
    for path in folder.glob("*.rows"):
        for line in path.read_text(encoding="utf-8").splitlines():
            epoch, *rows = map(int, line.split())
            # Rows are made ahead of the step that takes them: those of an epoch that is never
            # trained on are not taken.
            if epoch < epochs:
                counts[epoch].update(rows)
    return counts


def _train(folder: Path, child: str, data_dir: Path | None, settings: list[str]) -> None:
    """One process of a run; it notes the rows of every batch."""
    import tfmtl.data.pipeline as pipeline
    from tfmtl.cli import commands

    plain, lock = pipeline._gatherer, threading.Lock()

    def gatherer(encoded: Any, batch_rows: Any, *rest: Any) -> Any:
        def noted(*place: int) -> np.ndarray:
            rows = batch_rows(*place)
            with lock, (folder / f"{child}.rows").open("a", encoding="utf-8") as file:
                print(place[0], *rows.tolist(), file=file)
            return rows

        return plain(encoded, noted if encoded.is_training else batch_rows, *rest)

    pipeline._gatherer = gatherer
    commands.train(folder / "experiment.yaml", folder / "run", data_dir=data_dir, settings=settings)


def _run(
    folder: Path, strategy: str, data_dir: Path | None, settings: list[str], told: Any
) -> None:
    """All processes of a run; those that are left when one fails are killed."""
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text(EXPERIMENT, encoding="utf-8")
    cluster = {job: _addresses(count) for job, count in JOBS[strategy].items()}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for job, places in cluster.items():
            for index in range(len(places)):
                task = {"cluster": cluster, "task": {"type": job, "index": index}}
                environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
                options = [f"training.strategy={strategy}", *settings]
                arguments = [part for option in options for part in ("--set", option)]
                arguments += ["--data-dir", str(data_dir)] if data_dir else []
                arguments += ["--output", str(folder), "--child", f"{job}{index}"]
                with (folder / f"{job}{index}.log").open("w") as log:
                    processes[f"{job}{index}"] = subprocess.Popen(
                        [sys.executable, "-m", "benchmarks.distribution", *arguments],
                        env=environment,
                        stdout=log,
                        stderr=log,
                    )
        while any(process.poll() is None for process in processes.values()):
            failed = [name for name, process in processes.items() if process.poll()]
            if failed:
                raise RuntimeError(f"{failed} of {strategy} failed: see {folder}/{failed[0]}.log")
            told(len(_history(folder)))
            time.sleep(_LOOK_EVERY)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    failed = [name for name, process in processes.items() if process.returncode]
    if failed:
        raise RuntimeError(f"{failed} of {strategy} failed: see {folder}/{failed[0]}.log")


def _addresses(count: int) -> list[str]:
    """Addresses of this machine that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def _history(folder: Path) -> list[dict[str, str]]:
    path = folder / "run" / "history.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _difference(values: list[float], expected: list[float]) -> float:
    """Largest relative difference of two curves."""
    return float(np.max(np.abs(np.divide(values, expected) - 1)))


def _plot(curves: dict[str, list[float]], target: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    # Curves that lie on one another stay visible.
    for (strategy, values), style in zip(curves.items(), ("-", "--", ":"), strict=True):
        axis.plot(range(1, len(values) + 1), values, style, marker="o", label=LABELS[strategy])
    axis.set_xlabel("epoch")
    axis.set_ylabel("training loss")
    axis.legend()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)


if __name__ == "__main__":
    typer.run(main)
