import math

import pytest

from tests.training.small_experiment import experiment
from tfmtl.evaluation import Comparison, compare, read_telemetry, write_report
from tfmtl.training import RunFolder

DEAD = "telemetry/dead_experts"


def write(folder, monitor, values):
    run = RunFolder(folder)
    chosen = experiment("mmoe", f"training.monitor={monitor}")
    run.experiment.write_text(chosen.to_yaml())
    rows = [f"{epoch},{value},{epoch}" for epoch, value in enumerate(values, start=1)]
    header = f"epoch,val_{monitor},{DEAD}"
    run.history.write_text("\n".join([header, *rows]) + "\n")


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("auc", [0.5, 0.7, 0.6], 2),
        ("auc", [0.7, 0.7, 0.7], 1),
        ("log_loss", [0.5, 0.7, 0.4], 3),
        ("gauc", [math.nan, 0.5, math.nan], 2),
        ("gauc", [math.nan, math.nan], 1),
    ],
)
def test_values_are_those_of_the_epoch_that_training_chooses(monitor, values, best, tmp_path):
    write(tmp_path, monitor, values)
    assert read_telemetry(tmp_path) == {DEAD: best}


def test_a_run_without_telemetry_has_none(tmp_path):
    assert read_telemetry(tmp_path) == {}
    RunFolder(tmp_path).history.write_text("epoch,loss\n1,0.5\n")
    assert read_telemetry(tmp_path) == {}


@pytest.mark.slow
def test_a_comparison_reports_what_its_runs_observed(tmp_path):
    base = experiment("mmoe", "training.epochs=1").resolved()
    chosen = Comparison(
        base={**base, "model": {}},
        models={
            "MMoE": {"model": base["model"], "training": {"telemetry": True}},
            "Plain": {"model": base["model"]},
        },
        seeds=[0, 1],
    )
    cells = list(compare(chosen, tmp_path))
    assert [bool(cell.telemetry) for cell in cells] == [True, True, False, False]
    assert cells[0].telemetry == read_telemetry(tmp_path / "MMoE" / "seed-0")
    text = write_report(cells, tmp_path / "report").read_text(encoding="utf-8")
    loads = [
        sum(cell.telemetry[f"telemetry/gate/like_gate/load_{expert}"] for cell in cells[:2])
        for expert in (0, 1)
    ]
    assert f"| {min(loads):.2f} | {max(loads):.2f} |" in next(
        line for line in text.splitlines() if line.startswith("| MMoE, like_gate | ")
    )
    assert "Plain, " not in text
    assert f"MMoE,{DEAD}," in (tmp_path / "report" / "telemetry.csv").read_text()
