"""How models differ from a reference, and whether seeds alone explain it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import scipy.stats

from tfmtl.evaluation.comparison import Cell
from tfmtl.evaluation.results_table import values_by_seed
from tfmtl.metrics import relative_improvement

_CHANCE_AT_HALF = ("auc", "gauc")


@dataclass(frozen=True)
class Difference:
    """One metric of one model against the reference's, paired by seed.

    Args:
        label: The model's label.
        task: The task, or `MEAN` for the mean over tasks.
        metric: The metric's name.
        reference: The reference's label.
        difference: Mean over the common seeds of the model's value less the reference's.
        improvement: RelaImpr of the mean values, for AUC and GAUC; NaN for other metrics and where
            the reference is no better than chance.
        p_value: Two-sided paired t-test over the common seeds; NaN with fewer than two of them, or
            if all differences are equal.

    Example:
        >>> Difference("MoGENet", "click", "gauc", "MMoE", 0.002, 0.015, 0.2).p_value
        0.2
    """

    label: str
    task: str
    metric: str
    reference: str
    difference: float
    improvement: float
    p_value: float


def differences(
    cells: Sequence[Cell], metric: str, reference: str, *, part: str = "test"
) -> list[Difference]:
    """Compares every model with a reference, per task and for the mean over tasks.

    Seeds are what is drawn: the test asks whether other seeds on the same rows would turn the
    difference round, not whether other rows would. With three seeds it has little power.

    Args:
        cells: Finished cells.
        metric: Name of a `TaskMetrics` field.
        reference: Label of the reference.
        part: `test` or `validation`.

    Returns:
        One difference per model other than the reference and task, in the order of the cells.

    Raises:
        ValueError: If the reference is not among the cells.

    Example:
        >>> from tfmtl.metrics import task_metrics
        >>> good, bad = (task_metrics([0, 1, 1], scores)
        ...              for scores in ([0.1, 0.8, 0.9], [0.5, 0.8, 0.1]))
        >>> cells = [Cell("A", 0, {"test": {"click": good}}),
        ...          Cell("B", 0, {"test": {"click": bad}})]
        >>> [(one.label, one.difference) for one in differences(cells, "auc", "B")]
        [('A', 0.5)]
    """
    labels = list(dict.fromkeys(cell.label for cell in cells))
    if reference not in labels:
        raise ValueError(f"no cells of the reference {reference!r}; expected one of {labels}")
    base = values_by_seed(cells, reference, metric, part)
    found = []
    for label in labels:
        if label == reference:
            continue
        own = values_by_seed(cells, label, metric, part)
        for task, values in own.items():
            seeds = [seed for seed in values if seed in base.get(task, {})]
            ours = np.array([values[seed] for seed in seeds])
            theirs = np.array([base[task][seed] for seed in seeds])
            found.append(_difference(label, task, metric, reference, ours, theirs))
    return found


def _difference(
    label: str, task: str, metric: str, reference: str, ours: np.ndarray, theirs: np.ndarray
) -> Difference:
    gaps = ours - theirs
    p_value = math.nan
    if gaps.size > 1 and np.ptp(gaps) > 0:
        p_value = float(scipy.stats.ttest_rel(ours, theirs).pvalue)
    improvement = math.nan
    if metric in _CHANCE_AT_HALF and gaps.size and theirs.mean() > 0.5:
        improvement = relative_improvement(float(ours.mean()), float(theirs.mean()))
    mean = float(gaps.mean()) if gaps.size else math.nan
    return Difference(label, task, metric, reference, mean, improvement, p_value)


def best_label(cells: Sequence[Cell], metric: str, *, among: Sequence[str] | None = None) -> str:
    """The model with the highest mean over tasks and seeds, on the validation rows.

    Args:
        cells: Finished cells.
        metric: `auc` or `gauc`.
        among: Labels to choose from; all by default.

    Returns:
        Its label.

    Raises:
        ValueError: If there are no cells to choose from.

    Example:
        >>> from tfmtl.metrics import task_metrics
        >>> cells = [Cell(label, 0, {"validation": {"click": task_metrics([0, 1], scores)}})
        ...          for label, scores in (("A", [0.9, 0.1]), ("B", [0.1, 0.9]))]
        >>> best_label(cells, "auc")
        'B'
    """
    labels = [label for label in dict.fromkeys(cell.label for cell in cells)]
    labels = [label for label in labels if among is None or label in among]
    if not labels:
        raise ValueError(
            f"expected cells of at least one model to choose from; received none among {among}"
        )
    means = {}
    for label in labels:
        *_, over_tasks = values_by_seed(cells, label, metric, "validation").values()
        means[label] = np.mean(list(over_tasks.values()))
    return max(labels, key=lambda label: means[label])


def difference_table(found: Sequence[Difference]) -> str:
    """Differences of one metric as a Markdown table, a row per model and a column per task.

    Args:
        found: What `differences` returned.

    Returns:
        The table; every cell gives the difference, RelaImpr where it is defined, and p.

    Example:
        >>> print(difference_table([Difference("A", "click", "gauc", "B", 0.01, 0.1, 0.04)]))
        | gauc against B | click |
        | --- | --- |
        | A | +0.0100, +10.0 %, p 0.04 |
    """
    tasks = list(dict.fromkeys(one.task for one in found))
    lines = [
        "| " + " | ".join([f"{found[0].metric} against {found[0].reference}", *tasks]) + " |",
        "| " + " | ".join(["---"] * (len(tasks) + 1)) + " |",
    ]
    for label in dict.fromkeys(one.label for one in found):
        own = {one.task: one for one in found if one.label == label}
        lines.append("| " + " | ".join([label, *(_cell(own[task]) for task in tasks)]) + " |")
    return "\n".join(lines)


def difference_csv(found: Sequence[Difference]) -> str:
    """All differences as CSV text with a header.

    Args:
        found: What `differences` returned.

    Returns:
        CSV text.

    Example:
        >>> difference_csv([Difference("A", "click", "auc", "B", 0.5, 1.0, 0.25)]).splitlines()[1]
        'A,click,auc,B,0.5,1.0,0.25'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Difference)])
    writer.writerows(astuple(one) for one in found)
    return text.getvalue()


def _cell(one: Difference) -> str:
    parts = [f"{one.difference:+.4f}"]
    if not math.isnan(one.improvement):
        parts.append(f"{100 * one.improvement:+.1f} %")
    parts.append("p undefined" if math.isnan(one.p_value) else f"p {one.p_value:.2g}")
    return ", ".join(parts)
