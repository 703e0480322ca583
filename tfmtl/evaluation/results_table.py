"""Mean and spread over seeds, as a table and as a plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfmtl.evaluation.comparison import Cell

METRICS = ("auc", "gauc", "log_loss", "ece")
MEAN = "mean over tasks"


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation of one metric over seeds.

    Args:
        label: The model's label.
        task: The task.
        metric: The metric's name.
        mean: Mean over seeds.
        deviation: Sample standard deviation over seeds; 0 for one seed.
        seeds: Number of seeds.

    Example:
        >>> Summary("MMoE", "click", "auc", mean=0.71, deviation=0.002, seeds=3).seeds
        3
    """

    label: str
    task: str
    metric: str
    mean: float
    deviation: float
    seeds: int


def summarize(
    cells: Sequence[Cell], *, part: str = "test", metrics: Sequence[str] = METRICS
) -> list[Summary]:
    """Mean and spread per model, task and metric, in the order of the cells.

    Where there are several tasks, a last one, `MEAN`, is the mean over them: taken per seed, so
    that its spread is that of the means.

    Args:
        cells: Finished cells.
        part: `test` or `validation`.
        metrics: Names of `TaskMetrics` fields.

    Returns:
        One summary per model, task and metric.

    Raises:
        ValueError: If there are no cells.

    Example:
        >>> from tfmtl.metrics import task_metrics
        >>> click = {"click": task_metrics([0, 1], [0.2, 0.8])}
        >>> summarize([Cell("MMoE", 0, {"test": click})], metrics=["auc"])[0].mean
        1.0
    """
    if not cells:
        raise ValueError("expected at least one finished cell; received none")
    summaries = []
    for label in dict.fromkeys(cell.label for cell in cells):
        for metric in metrics:
            by_task = values_by_seed(cells, label, metric, part)
            for task, by_seed in by_task.items():
                values = np.array(list(by_seed.values()))
                deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                summaries.append(
                    Summary(label, task, metric, float(values.mean()), deviation, len(values))
                )
    return summaries


def values_by_seed(
    cells: Sequence[Cell], label: str, metric: str, part: str
) -> dict[str, dict[int, float]]:
    """One metric of one model, per task and seed; last, of several tasks, their `MEAN` per seed.

    Args:
        cells: Finished cells.
        label: The model's label.
        metric: Name of a `TaskMetrics` field.
        part: `test` or `validation`.

    Returns:
        Task to seed to value.
    """
    own = {cell.seed: cell.metrics[part] for cell in cells if cell.label == label}
    tasks = list(next(iter(own.values())))
    values = {
        task: {seed: float(getattr(result[task], metric)) for seed, result in own.items()}
        for task in tasks
    }
    if len(tasks) > 1:
        values[MEAN] = {
            seed: float(np.mean([values[task][seed] for task in tasks])) for seed in own
        }
    return values


def markdown_table(summaries: Sequence[Summary], metric: str) -> str:
    """One metric as a Markdown table, a row per model and a column per task.

    Args:
        summaries: What `summarize` returned.
        metric: The metric to show.

    Returns:
        The table, `mean ± deviation` in every cell.

    Example:
        >>> print(markdown_table([Summary("MMoE", "click", "auc", 0.71, 0.002, 3)], "auc"))
        | auc | click |
        | --- | --- |
        | MMoE | 0.7100 ± 0.0020 |
    """
    chosen = [summary for summary in summaries if summary.metric == metric]
    tasks = list(dict.fromkeys(summary.task for summary in chosen))
    lines = [
        "| " + " | ".join([metric, *tasks]) + " |",
        "| " + " | ".join(["---"] * (len(tasks) + 1)) + " |",
    ]
    for label in dict.fromkeys(summary.label for summary in chosen):
        own = {summary.task: summary for summary in chosen if summary.label == label}
        values = [f"{own[task].mean:.4f} ± {own[task].deviation:.4f}" for task in tasks]
        lines.append("| " + " | ".join([label, *values]) + " |")
    return "\n".join(lines)


def cost_table(cells: Sequence[Cell]) -> str:
    """What the models took, as a Markdown table: means over the seeds whose costs are known.

    Args:
        cells: Finished cells.

    Returns:
        The table; empty where no costs are known.

    Example:
        >>> from tfmtl.evaluation import RunCosts
        >>> print(cost_table([Cell("MMoE", 0, {}, RunCosts(1200, 3, 4.5))]))
        | costs | parameters | epochs | training, s |
        | --- | --- | --- | --- |
        | MMoE | 1,200 | 3.0 | 4.5 |
    """
    lines = []
    for label in dict.fromkeys(cell.label for cell in cells):
        costs = [cell.costs for cell in cells if cell.label == label and cell.costs is not None]
        if costs:
            epochs = np.mean([one.epochs for one in costs])
            seconds = np.mean([one.seconds for one in costs])
            lines.append(f"| {label} | {costs[0].parameters:,} | {epochs:.1f} | {seconds:.1f} |")
    if not lines:
        return ""
    return "\n".join(
        ["| costs | parameters | epochs | training, s |", "| --- | --- | --- | --- |", *lines]
    )


def csv_table(summaries: Sequence[Summary]) -> str:
    """All summaries as CSV text with a header.

    Args:
        summaries: What `summarize` returned.

    Returns:
        CSV text.

    Example:
        >>> csv_table([Summary("MMoE", "click", "auc", 0.5, 0.0, 1)]).splitlines()[1]
        'MMoE,click,auc,0.5,0.0,1'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "task", "metric", "mean", "deviation", "seeds"])
    for one in summaries:
        writer.writerow([one.label, one.task, one.metric, one.mean, one.deviation, one.seeds])
    return text.getvalue()


def plot_summaries(summaries: Sequence[Summary], metric: str, target: Path) -> None:
    """Draws one metric per task and model with error bars.

    Args:
        summaries: What `summarize` returned.
        metric: The metric to draw.
        target: Picture to write, PNG.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     target = Path(folder) / "auc.png"
        ...     plot_summaries([Summary("MMoE", "click", "auc", 0.71, 0.002, 3)], "auc", target)
        ...     target.exists()
        True
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = [summary for summary in summaries if summary.metric == metric]
    tasks = list(dict.fromkeys(summary.task for summary in chosen))
    labels = list(dict.fromkeys(summary.label for summary in chosen))
    width = max(3, 0.2 * len(labels))
    figure = Figure(figsize=(width * len(tasks), 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, len(tasks)))
    for axis, task in zip(axes, tasks, strict=True):
        own = {summary.label: summary for summary in chosen if summary.task == task}
        axis.errorbar(
            range(len(labels)),
            [own[label].mean for label in labels],
            yerr=[own[label].deviation for label in labels],
            fmt="o",
            capsize=4,
        )
        axis.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
        axis.set_title(f"{task}, {metric}")
    aside = target.with_suffix(".partial.png")
    figure.savefig(aside)
    aside.replace(target)
