"""KuaiRand-Pure: SingleTask, SharedBottom, MMoE, MoGENet and LightGBM, one table.

    python -m benchmarks.kuairand --data-dir FOLDER --output runs/kuairand

trains every model of `benchmarks/kuairand.yaml` with every seed (a finished cell is not run
again), LightGBM per task beside them on the same columns and the same history, and prints the test
metrics of 4 and 5 May as mean and standard deviation over seeds. Epochs and rounds are chosen on
3 May.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.gradient_boosted_trees import tree_cells
from tfmtl.evaluation import Comparison, compare, write_report

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
        cells += tree_cells(
            comparison,
            output / label,
            label=label,
            data_dir=data_dir,
            dataset_options={"train_on_history": on_history},
        )
    heading = "KuaiRand-Pure, test rows of 4 and 5 May 2022"
    report = write_report(cells, output, heading=heading, reference=comparison.reference)
    typer.echo(report.read_text())


if __name__ == "__main__":
    typer.run(main)
