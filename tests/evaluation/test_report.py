import pytest

from tfmtl.evaluation import Cell, RunCosts, write_report
from tfmtl.metrics import task_metrics


def test_a_report_holds_every_metric(scored, tmp_path):
    cells = [
        Cell("MMoE", seed, {"test": {"click": scored(auc=auc)}})
        for seed, auc in ((0, 0.6), (1, 0.8))
    ]
    path = write_report(cells, tmp_path / "deep" / "report", heading="Shop")
    assert path == tmp_path / "deep" / "report" / "results.md"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Shop\n\nMean ± standard deviation over 2 seeds; ")
    # Differences of 0.1 to the mean: sqrt(0.02 / 1).
    assert "| MMoE | 0.7000 ± 0.1414 |" in text
    for metric in ("auc", "gauc", "log_loss", "ece"):
        assert f"| {metric} | click |" in text
    assert {file.name for file in path.parent.iterdir()} == {
        "results.md",
        "results.csv",
        "differences.csv",
        "auc.png",
        "gauc.png",
    }
    assert len((path.parent / "results.csv").read_text().splitlines()) == 1 + 4


def test_a_metric_that_nothing_defines_is_left_out(tmp_path):
    metrics = {"click": task_metrics([0, 1], [0.2, 0.8])}
    cells = [Cell(label, 0, {"test": metrics, "validation": metrics}) for label in "AB"]
    text = write_report(cells, tmp_path).read_text(encoding="utf-8")
    assert "| auc | click |" in text
    assert "gauc" not in text
    assert not (tmp_path / "gauc.png").exists()
    assert "gauc" not in (tmp_path / "differences.csv").read_text()


def test_costs_are_means_over_seeds(scored, tmp_path):
    metrics = {"test": {"click": scored()}, "validation": {"click": scored()}}
    cells = [Cell("A", seed, metrics, RunCosts(1234, 2 + seed, 1.0)) for seed in (0, 1)]
    text = write_report([*cells, Cell("Trees", 0, metrics)], tmp_path).read_text(encoding="utf-8")
    assert "| costs | parameters | epochs | training, s |" in text
    assert "| A | 1,234 | 2.5 | 1.0 |" in text
    (costs,) = (part for part in text.split("\n\n") if part.startswith("| costs |"))
    assert "Trees" not in costs


def test_models_are_tested_against_the_reference(scored, tmp_path):
    cells = [
        Cell(
            label,
            seed,
            {
                "test": {"click": scored(auc=auc + 0.001 * seed**2 * (label == "A"))},
                "validation": {"click": scored(auc=auc)},
            },
        )
        for label, auc in (("A", 0.7), ("B", 0.8), ("C", 0.6))
        for seed in (0, 1, 2)
    ]
    best = write_report(cells, tmp_path).read_text(encoding="utf-8")
    assert "Differences to B, RelaImpr, and p of a paired t-test" in best
    assert "| A | -0.0983, " in best
    named = write_report(cells, tmp_path, reference="C").read_text(encoding="utf-8")
    assert "| auc against C | click |" in named
    lines = (tmp_path / "differences.csv").read_text().splitlines()
    assert lines[0] == "label,task,metric,reference,difference,improvement,p_value"
    assert len(lines) == 1 + 2 * 2


def test_a_report_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="at least one finished cell"):
        write_report([], tmp_path / "report")
    assert not (tmp_path / "report").exists()
