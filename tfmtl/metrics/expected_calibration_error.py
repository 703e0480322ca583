"""How far predicted probabilities are from observed rates."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from tfmtl.metrics.scored_rows import ScoredRows

Binning = Literal["equal_mass", "equal_width"]


def expected_calibration_error(
    labels: ArrayLike,
    probabilities: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bins: int = 20,
    binning: Binning = "equal_mass",
) -> float:
    """Mean over bins of |observed rate - mean probability|, weighted by the bins' rows.

    ECE = sum_b (W_b / W) |rate_b - mean probability_b|. Bins of equal mass suit rates of a few
    per cent, where bins of equal width put nearly all rows into the first one. Rows of equal
    probability always share a bin, so the result does not depend on the order of the rows.

    Args:
        labels: 0 or 1, `[n]`.
        probabilities: Between 0 and 1, `[n]`.
        weights: At least 0, `[n]`; rows of weight 0 are left out, whatever they hold.
        bins: Number of bins. Defaults to 20.
        binning: `equal_mass` cuts the sorted rows into bins of equal weight, `equal_width` cuts
            the unit interval. Defaults to `equal_mass`.

    Returns:
        The error between 0 and 1, or NaN without rows.

    Raises:
        ValueError: If shapes differ, values are out of range, or `bins` or `binning` is unusable.

    Example:
        Of the rows near 0.2 none is positive, of those near 0.6 all are.

        >>> error = expected_calibration_error([0, 0, 1, 1], [0.2, 0.2, 0.6, 0.6], bins=2)
        >>> round(error, 4)
        0.3
    """
    check_bins(bins, binning)
    rows = ScoredRows.checked(labels, probabilities, weights, probabilities=True)
    if not rows.labels.size:
        return float("nan")
    scores, runs = np.unique(rows.scores.astype(np.float64), return_inverse=True)
    mass = np.bincount(runs, rows.weights)
    weighted = rows.labels if rows.weights is None else rows.labels * rows.weights
    positives = np.bincount(runs, weighted)
    # By mass, a run of equal probabilities goes to the bin that holds its middle row.
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    place = middle if binning == "equal_mass" else scores
    of_bin = np.minimum((place * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(of_bin, positives - mass * scores)
    return float(np.abs(gaps).sum() / mass.sum())


def check_bins(bins: int, binning: str) -> None:
    """Checks the number and the kind of bins.

    Raises:
        ValueError: Naming the value received.
    """
    if bins < 1:
        raise ValueError(f"expected at least 1 bin; received bins={bins}")
    if binning not in ("equal_mass", "equal_width"):
        raise ValueError(f"expected binning 'equal_mass' or 'equal_width'; received {binning!r}")
