"""Rewrites the tables of `docs/results/` that come from comparisons.

    python -m benchmarks.reproduce --data-dir FOLDER
    python -m benchmarks.reproduce --only models --seeds 1

runs the comparisons of `benchmarks/experiments/` into `runs/reproduce` (a finished cell is not run
again), LightGBM beside the models, and writes one report per comparison and log.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.gradient_boosted_trees import tree_cells
from tfmtl.evaluation import Comparison, compare, write_report

EXPERIMENTS = Path(__file__).with_name("experiments")
RESULTS = Path(__file__).parents[1] / "docs" / "results"
# In this order, as later ones ask about what earlier ones show.
COMPARISONS = (
    "census",
    "chains",
    "kuairand",
    "models",
    "ablations",
    "macro",
    "macro_ablations",
    "grec",
    "grec_flows",
    "grec_ablations",
    "grec_movielens",
    "balancers",
)
# Comparisons in which LightGBM stands beside the models.
WITH_TREES = ("census", "kuairand", "models")


def main(
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/reproduce"),
    results: Annotated[Path, typer.Option(help="Folder of the reports.")] = RESULTS,
    only: Annotated[list[str] | None, typer.Option(help="Some comparisons; all if none.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Most seeds; all if none.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Cells run at the same time.")] = 1,
) -> None:
    for name in only or COMPARISONS:
        comparison = Comparison.from_yaml(EXPERIMENTS / f"{name}.yaml")
        comparison = comparison.model_copy(update={"seeds": comparison.seeds[:seeds]})
        cells = list(
            compare(comparison, output / name, data_dir=data_dir, jobs=jobs, progress=True)
        )
        for dataset in comparison.dataset_labels:
            if name in WITH_TREES:
                trees = output / name / dataset / "LightGBM per task"
                cells += tree_cells(comparison, trees, data_dir=data_dir, dataset=dataset)
            report = write_report(
                [cell for cell in cells if cell.dataset == dataset],
                results / name / dataset,
                heading=", ".join(filter(None, (name, dataset, "test rows"))),
                reference=comparison.reference,
            )
            typer.echo(report.read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
