"""Writes the tables and plots of a comparison."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from tfmtl.evaluation.comparison import Cell
from tfmtl.evaluation.results_table import (
    METRICS,
    cost_table,
    csv_table,
    markdown_table,
    plot_summaries,
    summarize,
)
from tfmtl.evaluation.significance import (
    Difference,
    best_label,
    difference_csv,
    difference_table,
    differences,
)
from tfmtl.evaluation.telemetry_table import telemetry_csv, telemetry_table
from tfmtl.evaluation.tuning_table import tuning_table

RANKING = ("auc", "gauc")


def write_report(
    cells: Sequence[Cell],
    folder: Path,
    *,
    heading: str = "Test rows",
    reference: str | None = None,
) -> Path:
    """Writes `results.md`, `results.csv`, `differences.csv` and one plot per ranking metric.

    A metric that is undefined everywhere, such as the GAUC of a log without users, is left out.

    Where cells have telemetry there are its tables in `results.md`, and `telemetry.csv`.

    Args:
        cells: Finished cells.
        folder: Where to write.
        heading: First line of the report.
        reference: Label of the model that the others are tested against; the best one by AUC on
            the validation rows when not given. Without another model there is nothing to test.

    Returns:
        Path of `results.md`.

    Example:
        >>> import tempfile
        >>> from tfmtl.metrics import task_metrics
        >>> click = {"click": task_metrics([0, 1], [0.2, 0.8], groups=[1, 1])}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report([Cell("MMoE", 0, {"test": click})], Path(folder)).name
        'results.md'
    """
    summaries = summarize(cells)
    seeds = max(summary.seeds for summary in summaries)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    parts = [f"# {heading}", f"Mean ± standard deviation over {seeds} seeds; {machine}."]
    # A log without users has no GAUC.
    defined = {summary.metric for summary in summaries if not math.isnan(summary.mean)}
    parts += [markdown_table(summaries, metric) for metric in METRICS if metric in defined]
    ranking = [metric for metric in RANKING if metric in defined]
    costs = cost_table(cells)
    parts += [costs] if costs else []
    tuned = tuning_table(cells)
    parts += [tuned] if tuned else []
    observed = telemetry_table(cells)
    if observed:
        parts += [
            "Gates and task gradients on validation rows at the best epoch: entropy 1 where a gate "
            "weighs its E experts alike, a cosine below 0 where two tasks are at odds.",
            observed,
        ]
    found: list[Difference] = []
    if len({cell.label for cell in cells}) > 1:
        reference = reference or best_label(cells, "auc")
        parts.append(
            f"Differences to {reference}, RelaImpr, and p of a paired t-test over seeds, two-sided "
            "and without correction for the number of comparisons."
        )
        for metric in ranking:
            own = differences(cells, metric, reference)
            parts.append(difference_table(own))
            found += own
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for metric in ranking:
        plot_summaries(summaries, metric, folder / f"{metric}.png")
    files = {
        "results.csv": csv_table(summaries),
        "differences.csv": difference_csv(found),
        **({"telemetry.csv": telemetry_csv(cells)} if observed else {}),
        "results.md": "\n\n".join(parts) + "\n",
    }
    for name, text in files.items():
        aside = folder / f".{name}.partial"
        aside.write_text(text, encoding="utf-8")
        aside.replace(folder / name)
    return folder / "results.md"
