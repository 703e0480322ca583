import csv
import io
import math

import pytest

from tfmtl.evaluation import (
    Cell,
    summarize_telemetry,
    telemetry_csv,
    telemetry_table,
    write_report,
)

COSINE = "telemetry/gradient_cosine"


def gated(load, entropy, dead, cosines):
    return {
        "telemetry/gate/a_gate/load_0": load,
        "telemetry/gate/a_gate/load_1": 0.5 - load,
        "telemetry/gate/a_gate/load_2": 0.5,
        "telemetry/gate/a_gate/entropy": entropy,
        "telemetry/dead_experts": dead,
        **{f"{COSINE}/a/{other}": value for other, value in cosines.items()},
    }


@pytest.fixture
def cells(scored):
    """A model with a gate over two seeds, one that has gradients alone, and one with nothing."""
    metrics = {"test": {"a": scored()}, "validation": {"a": scored()}}
    return [
        Cell("MMoE", 0, metrics, telemetry=gated(0.1, 0.6, 1.0, {"b": 0.2, "entropy": -0.4})),
        Cell("MMoE", 1, metrics, telemetry=gated(0.3, 0.8, 0.0, {"b": 0.4, "entropy": math.nan})),
        Cell("Shared", 0, metrics, telemetry={f"{COSINE}/a/b": -0.25}),
        Cell("Undefined", 0, metrics, telemetry={f"{COSINE}/a/b": math.nan}),
        Cell("Trees", 0, metrics),
    ]


def test_means_and_deviations_are_over_seeds(cells):
    found = {(one.label, one.metric): one for one in summarize_telemetry(cells)}
    entropy = found["MMoE", "telemetry/gate/a_gate/entropy"]
    assert entropy.mean == pytest.approx(0.7)
    assert entropy.deviation == pytest.approx(math.sqrt(0.02))
    assert entropy.seeds == 2
    # A seed in which a task had no gradient is left out.
    once = found["MMoE", f"{COSINE}/a/entropy"]
    assert (once.mean, once.deviation, once.seeds) == (-0.4, 0.0, 1)
    never = found["Undefined", f"{COSINE}/a/b"]
    assert math.isnan(never.mean)
    assert never.seeds == 0
    assert list(dict.fromkeys(label for label, _ in found)) == ["MMoE", "Shared", "Undefined"]


def test_markdown(cells):
    # Of experts 0 to 2 the mean loads are .2, .3 and .5, a third each would be uniform; the cosine
    # is the mean of the pairs' .3 and -.4.
    assert telemetry_table(cells).splitlines() == [
        "| telemetry | dead experts | gradient cosine |",
        "| --- | --- | --- |",
        "| MMoE | 0.5 | -0.050 |",
        "| Shared | - | -0.250 |",
        "| Undefined | - | - |",
        "",
        "| gate | entropy | lowest load, of 1 / E | highest load, of 1 / E |",
        "| --- | --- | --- | --- |",
        "| MMoE, a_gate | 0.700 ± 0.141 | 0.60 | 1.50 |",
    ]


def test_without_gates_or_without_anything(cells):
    assert "entropy" not in telemetry_table(cells[2:])
    assert telemetry_table(cells[4:]) == ""


def test_csv(cells):
    rows = list(csv.DictReader(io.StringIO(telemetry_csv(cells))))
    assert list(rows[0]) == ["model", "name", "mean", "deviation", "seeds"]
    assert len(rows) == 7 + 1 + 1
    (dead,) = (row for row in rows if row["name"] == "telemetry/dead_experts")
    assert (dead["model"], dead["mean"], dead["seeds"]) == ("MMoE", "0.5", "2")


def test_a_report_has_telemetry_where_there_is_any(cells, tmp_path):
    text = write_report(cells, tmp_path / "with").read_text(encoding="utf-8")
    assert telemetry_table(cells) in text
    assert "Gates and task gradients on validation rows at the best epoch" in text
    assert (tmp_path / "with" / "telemetry.csv").read_text() == telemetry_csv(cells)
    plain = write_report(cells[4:], tmp_path / "without").read_text(encoding="utf-8")
    assert "task gradients" not in plain
    assert not (tmp_path / "without" / "telemetry.csv").exists()
