"""Area under the ROC curve."""

from __future__ import annotations

from numpy.typing import ArrayLike

from tfmtl.metrics.area_by_group import AreaByGroup
from tfmtl.metrics.scored_rows import ScoredRows


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Probability that a positive row scores above a negative one, ties counted half.

    Exact: rows are ranked, not binned. With weights, each pair of a positive and a negative row
    counts with the product of their weights.

    Args:
        labels: 0 or 1, `[n]`.
        scores: Probabilities or logits, `[n]`; only their order matters.
        weights: At least 0, `[n]`; rows of weight 0 are left out, whatever they hold.

    Returns:
        The area, or NaN when the rows have one class only.

    Raises:
        ValueError: If shapes differ, scores are NaN or labels are not 0 and 1.

    Example:
        >>> auc([1, 0, 0, 1], [0.75, 0.5, 0.25, 0.5])
        0.875
    """
    areas = AreaByGroup.of(ScoredRows.checked(labels, scores, weights)).areas
    return float(areas[0]) if areas.size else float("nan")
