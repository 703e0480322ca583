"""AUC within groups, averaged over groups."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tfmtl.metrics.area_by_group import AreaByGroup
from tfmtl.metrics.scored_rows import ScoredRows, check_shapes


class GroupedAUC(NamedTuple):
    """A grouped AUC and what it was computed on.

    Args:
        value: The average, or NaN when no group has both classes.
        groups_kept: Groups with both classes, the only ones that count.
        groups_total: Groups with rows.
        rows_kept: Rows of the groups kept.

    Example:
        >>> GroupedAUC(value=0.5, groups_kept=3, groups_total=4, rows_kept=20).groups_kept
        3
    """

    value: float
    groups_kept: int
    groups_total: int
    rows_kept: int


def gauc(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    weighting: Literal["impressions", "users"] = "impressions",
) -> GroupedAUC:
    """AUC of each user's own rows, averaged over users.

    GAUC = sum_u w_u AUC_u / sum_u w_u over the users whose rows have both classes; the others
    count neither above nor below the line. It asks whether the model orders what one user sees,
    and does not reward telling active users from idle ones.

    The cost is that of one sort of the rows, whatever the number of groups.

    Args:
        labels: 0 or 1, `[n]`.
        scores: Probabilities or logits, `[n]`; `float32` scores are the quickest to sort.
        groups: User of each row, `[n]`, integers or strings.
        weights: At least 0, `[n]`; rows of weight 0 are left out, whatever they hold.
        weighting: What w_u is: `impressions` for the sum of the user's weights (their number of
            rows without weights), `users` for 1. Defaults to `impressions`.

    Returns:
        The value and the numbers of groups and rows it rests on.

    Raises:
        ValueError: If shapes differ, scores are NaN, labels are not 0 and 1, or `weighting` is
            neither of the two.

    Example:
        User 7 has AUC 1 on two rows, user 8 has 0.5 on three, user 9 has one class only.

        >>> result = gauc([1, 0, 1, 1, 0, 1], [0.9, 0.1, 0.9, 0.1, 0.5, 0.5], [7, 7, 8, 8, 8, 9])
        >>> round(result.value, 4)
        0.7
        >>> result.groups_kept, result.groups_total, result.rows_kept
        (2, 3, 5)
    """
    if weighting not in ("impressions", "users"):
        raise ValueError(f"expected weighting 'impressions' or 'users'; received {weighting!r}")
    groups = np.asarray(groups)
    check_shapes(labels=np.asarray(labels), groups=groups)
    rows = ScoredRows.checked(labels, scores, weights)
    by_group = AreaByGroup.of(rows, groups if rows.kept is None else groups[rows.kept])
    kept = ~np.isnan(by_group.areas)
    value = float("nan")
    if kept.any():
        shares = by_group.weights[kept] if weighting == "impressions" else None
        value = float(np.average(by_group.areas[kept], weights=shares))
    return GroupedAUC(value, int(kept.sum()), len(kept), int(by_group.rows[kept].sum()))
