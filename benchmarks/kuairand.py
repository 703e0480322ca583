"""KuaiRand-Pure: SingleTask, SharedBottom, MMoE, MoGENet and LightGBM, one table.

    python -m benchmarks.kuairand --data-dir FOLDER --output runs/kuairand

trains every model of `benchmarks/kuairand.yaml` with every seed (a finished cell is not run
again), LightGBM per task beside them on the same columns and the same history, and prints the test
metrics of 4 and 5 May as mean and standard deviation over seeds. Epochs and rounds are chosen on
3 May.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from benchmarks.gradient_boosted_trees import boosted_trees
from tfmtl.evaluation import Cell, Comparison, compare, read_metrics, write_report
from tfmtl.training import PreparedData, prepare_data

COMPARISON = Path(__file__).with_name("kuairand.yaml")
# Trees have the history in their target encoding, out of fold, in both; the second trains on its
# rows as well, as the models do.
TREES = {"LightGBM per task": False, "LightGBM per task, history rows": True}


def main(
    output: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/kuairand"),
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
) -> None:
    comparison = Comparison.from_yaml(COMPARISON)
    cells = list(compare(comparison, output, data_dir=data_dir, progress=True))
    for label, on_history in TREES.items():
        paths = {
            seed: output / label / f"seed-{seed}" / "metrics.json" for seed in comparison.seeds
        }
        unfinished = [seed for seed, path in paths.items() if not path.exists()]
        if unfinished:
            data = _rows(comparison, data_dir, on_history)
            for seed in track(unfinished, description=label):
                _write(boosted_trees(data, seed, label), paths[seed])
        cells += [Cell(label, seed, read_metrics(path)) for seed, path in paths.items()]
    heading = "KuaiRand-Pure, test rows of 4 and 5 May 2022"
    report = write_report(cells, output, heading=heading, reference=comparison.reference)
    typer.echo(report.read_text())


def _rows(comparison: Comparison, data_dir: Path | None, on_history: bool) -> PreparedData:
    """The rows of the comparison, those of the history among the training rows or beside them."""
    experiment = comparison.experiment(next(iter(comparison.models)), comparison.seeds[0])
    dataset = experiment.dataset.model_copy(update={"train_on_history": on_history})
    experiment = experiment.model_copy(update={"dataset": dataset})
    return prepare_data(experiment, data_dir=data_dir, with_graph=False)


def _write(cell: Cell, path: Path) -> None:
    metrics = {
        part: {task: asdict(values) for task, values in own.items()}
        for part, own in cell.metrics.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(metrics))
    aside.replace(path)


if __name__ == "__main__":
    typer.run(main)
