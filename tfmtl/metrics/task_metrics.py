"""What is reported of one task's predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tfmtl.metrics.auc import auc
from tfmtl.metrics.expected_calibration_error import expected_calibration_error
from tfmtl.metrics.gauc import GroupedAUC, gauc
from tfmtl.metrics.log_loss import log_loss
from tfmtl.metrics.scored_rows import ScoredRows, check_shapes


@dataclass(frozen=True)
class TaskMetrics:
    """Metrics of one task, with the numbers of rows and users they rest on.

    Args:
        auc: Area under the ROC curve; NaN when the rows have one class only.
        gauc: Impression-weighted AUC within users; NaN without users of both classes.
        log_loss: Mean negative log likelihood in nats.
        ece: Expected calibration error over 20 bins of equal mass.
        rows: Rows on which the task is defined.
        positives: Positive rows among them.
        users_kept: Users with both classes, those the GAUC rests on.

    Example:
        >>> task_metrics([1, 0, 0], [0.5, 0.25, 0.75], groups=[7, 7, 7]).gauc
        0.5
    """

    auc: float
    gauc: float
    log_loss: float
    ece: float
    rows: int
    positives: int
    users_kept: int


def task_metrics(
    labels: ArrayLike,
    probabilities: ArrayLike,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> TaskMetrics:
    """All metrics of one task, on the rows whose weight is not 0.

    Args:
        labels: 0 or 1, `[n]`.
        probabilities: Between 0 and 1, `[n]`.
        weights: At least 0, `[n]`, 0 where the task is undefined; such rows may hold anything.
        groups: User of each row, `[n]`; without it the GAUC is NaN.

    Returns:
        The metrics. Without any row that counts, all values are NaN and all numbers 0.

    Raises:
        ValueError: If shapes differ, or values are out of range.

    Example:
        >>> metrics = task_metrics([1, 0, 1], [0.75, 0.5, 0.1], weights=[1, 1, 0])
        >>> metrics.rows, metrics.positives, metrics.auc
        (2, 1, 1.0)
    """
    rows = ScoredRows.checked(labels, probabilities, weights, probabilities=True)
    counted = (rows.labels, rows.scores, rows.weights)
    within = GroupedAUC(float("nan"), 0, 0, 0)
    if groups is not None:
        groups = np.asarray(groups)
        check_shapes(labels=np.asarray(labels), groups=groups)
        if rows.kept is not None:
            groups = groups[rows.kept]
        within = gauc(rows.labels, rows.scores, groups, weights=rows.weights)
    return TaskMetrics(
        auc=auc(*counted),
        gauc=within.value,
        log_loss=log_loss(*counted),
        ece=expected_calibration_error(*counted),
        rows=len(rows.labels),
        positives=int(rows.labels.sum()),
        users_kept=within.groups_kept,
    )
