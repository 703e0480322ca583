import csv
import io
import math

import pytest

from tfmtl.evaluation import (
    MEAN,
    Cell,
    Summary,
    csv_table,
    markdown_table,
    plot_summaries,
    summarize,
)


@pytest.fixture
def cells(scored):
    """Two models; MMoE with three seeds, of which the AUC of click is 0.6, 0.7 and 0.8."""
    return [
        Cell(
            label,
            seed,
            {
                "test": {"click": scored(auc=auc), "like": scored(auc=0.9, gauc=auc / 2)},
                "validation": {"click": scored(auc=0.1), "like": scored(auc=0.2)},
            },
        )
        for label, seed, auc in (
            ("MMoE", 0, 0.6),
            ("MMoE", 1, 0.7),
            ("MMoE", 2, 0.8),
            ("A", 0, 0.5),
        )
    ]


def test_mean_and_sample_deviation(cells):
    found = {(s.label, s.task, s.metric): s for s in summarize(cells)}
    click = found["MMoE", "click", "auc"]
    assert click.mean == pytest.approx(0.7)
    # sqrt((0.01 + 0 + 0.01) / 2), and not over 3.
    assert click.deviation == pytest.approx(0.1)
    assert click.seeds == 3
    assert found["MMoE", "like", "gauc"].deviation == pytest.approx(0.05)
    assert found["A", "click", "auc"] == Summary("A", "click", "auc", 0.5, 0.0, 1)
    # Means over tasks of each seed: .75, .8 and .85.
    mean = found["MMoE", MEAN, "auc"]
    assert mean.mean == pytest.approx(0.8)
    assert mean.deviation == pytest.approx(0.05)
    assert len(found) == 2 * 3 * 4


def test_one_task_has_no_mean(scored):
    (only,) = summarize([Cell("M", 0, {"test": {"click": scored()}})], metrics=["auc"])
    assert only.task == "click"


def test_the_order_is_that_of_the_cells(cells):
    assert list(dict.fromkeys(s.label for s in summarize(cells))) == ["MMoE", "A"]
    chosen = summarize(cells, metrics=["log_loss", "auc"])
    assert list(dict.fromkeys(s.metric for s in chosen)) == ["log_loss", "auc"]


def test_another_part(cells):
    (click, _, _) = summarize(cells[:1], part="validation", metrics=["auc"])
    assert click.mean == pytest.approx(0.1)


def test_nothing_to_summarize():
    with pytest.raises(ValueError, match="expected at least one finished cell; received none"):
        summarize([])


def test_an_undefined_metric_stays_undefined(scored):
    cells = [Cell("M", seed, {"test": {"click": scored(gauc=math.nan)}}) for seed in (0, 1)]
    (only,) = summarize(cells, metrics=["gauc"])
    assert math.isnan(only.mean)
    assert "nan ± nan" in markdown_table([only], "gauc")


def test_markdown(cells):
    assert markdown_table(summarize(cells), "auc").splitlines() == [
        "| auc | click | like | mean over tasks |",
        "| --- | --- | --- | --- |",
        "| MMoE | 0.7000 ± 0.1000 | 0.9000 ± 0.0000 | 0.8000 ± 0.0500 |",
        "| A | 0.5000 ± 0.0000 | 0.9000 ± 0.0000 | 0.7000 ± 0.0000 |",
    ]


def test_csv(cells):
    rows = list(csv.DictReader(io.StringIO(csv_table(summarize(cells, metrics=["auc"])))))
    assert list(rows[0]) == ["model", "task", "metric", "mean", "deviation", "seeds"]
    assert [row["model"] for row in rows] == ["MMoE"] * 3 + ["A"] * 3
    assert float(rows[0]["mean"]) == pytest.approx(0.7)
    assert rows[0]["seeds"] == "3"


def test_labels_with_commas_survive_the_csv():
    (row,) = csv.DictReader(io.StringIO(csv_table([Summary("a, b", "t", "auc", 0.5, 0.0, 1)])))
    assert row["model"] == "a, b"


@pytest.mark.parametrize("tasks", [["click"], ["click", "like"]])
def test_plot(tasks, cells, tmp_path):
    chosen = [summary for summary in summarize(cells) if summary.task in tasks]
    plot_summaries(chosen, "auc", tmp_path / "auc.png")
    assert (tmp_path / "auc.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["auc.png"]
