"""KuaiRand-Pure: SingleTask, SharedBottom, MMoE, MoGENet and LightGBM, one table.

    python -m benchmarks.kuairand --data-dir FOLDER --output runs/kuairand

trains every model of `benchmarks/kuairand.yaml` with every seed (a finished cell is not run
again), LightGBM per task beside them on the same columns and with the history in its target
encoding, and prints the test metrics of 4 and 5 May as mean and standard deviation over seeds.
Epochs and rounds are chosen on 3 May.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.gradient_boosted_trees import boosted_trees
from tfmtl.evaluation import Cell, Comparison, compare, read_metrics, write_report
from tfmtl.training import prepare_data

COMPARISON = Path(__file__).with_name("kuairand.yaml")
TREES = "LightGBM per task"


def main(
    output: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/kuairand"),
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
) -> None:
    comparison = Comparison.from_yaml(COMPARISON)
    cells = list(compare(comparison, output, data_dir=data_dir, progress=True))
    data = None
    for seed in comparison.seeds:
        path = output / TREES / f"seed-{seed}" / "metrics.json"
        if not path.exists():
            if data is None:
                experiment = comparison.experiment(next(iter(comparison.models)), seed)
                # Trees have the history in their target encoding, out of fold.
                dataset = experiment.dataset.model_copy(update={"train_on_history": False})
                experiment = experiment.model_copy(update={"dataset": dataset})
                data = prepare_data(experiment, data_dir=data_dir, with_graph=False)
            cell = boosted_trees(data, seed, TREES)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                json.dumps(
                    {
                        part: {task: asdict(values) for task, values in own.items()}
                        for part, own in cell.metrics.items()
                    }
                )
            )
        cells.append(Cell(TREES, seed, read_metrics(path)))
    report = write_report(cells, output, heading="KuaiRand-Pure, test rows of 4 and 5 May 2022")
    typer.echo(report.read_text())


if __name__ == "__main__":
    typer.run(main)
