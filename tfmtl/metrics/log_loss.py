"""Mean negative log likelihood of 0/1 labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tfmtl.metrics.scored_rows import ScoredRows

CLIP = 1e-7


def log_loss(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """Mean of -log p over positive rows and -log(1 - p) over negative ones.

    Args:
        labels: 0 or 1, `[n]`.
        probabilities: Between 0 and 1, `[n]`; clipped to [1e-7, 1 - 1e-7], so one certain and
            wrong row costs at most 16.2.
        weights: At least 0, `[n]`; rows of weight 0 are left out, whatever they hold.

    Returns:
        The weighted mean in nats, or NaN without rows.

    Raises:
        ValueError: If shapes differ, or values are out of range.

    Example:
        >>> round(log_loss([1, 0], [0.5, 0.2]), 4)
        0.4581
    """
    rows = ScoredRows.checked(labels, probabilities, weights, probabilities=True)
    if not rows.labels.size:
        return float("nan")
    clipped = np.clip(rows.scores.astype(np.float64), CLIP, 1 - CLIP)
    losses = -np.where(rows.labels == 1, np.log(clipped), np.log1p(-clipped))
    return float(np.average(losses, weights=rows.weights))
