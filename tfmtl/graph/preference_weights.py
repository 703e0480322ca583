"""Which nodes are active enough to move a cluster's centre."""

from __future__ import annotations

from typing import Literal

import numpy as np


def preference_weights(
    sums: np.ndarray,
    threshold: float,
    *,
    activity: Literal["quantile", "value"] = "quantile",
    weighting: Literal["binary", "ratio"] = "binary",
) -> np.ndarray:
    """Weights of nodes by their summed merged scores.

        w_v = 1 if deg(v) >= delta, else 0                    (`binary`)
        w_v = min(1, deg(v) / delta)                          (`ratio`)

    Args:
        sums: deg(v), the sum of the scores on each node's edges, `float [N]`.
        threshold: delta, or the quantile of the sums of nodes with edges that is delta.
        activity: Whether `threshold` is a `quantile` or a `value`.
        weighting: `binary` or `ratio`.

    Returns:
        `float32 [N]` in [0, 1]; 0 for nodes without edges.

    Raises:
        ValueError: If no node is active.

    References:
        MGOE (KDD 2026), equation 8.

    Deviations:
        The two values of equation 8 cannot be read; 1 and 0 follow its Figure 2, which greys
        inactive nodes out.

    Example:
        >>> preference_weights(np.array([0.0, 2.0, 7.0, 5.0]), 4, activity="value").tolist()
        [0.0, 0.0, 1.0, 1.0]
    """
    linked = sums > 0
    if activity == "quantile" and linked.any():
        threshold = float(np.quantile(sums[linked], threshold, method="lower"))
    if weighting == "ratio":
        weights = np.minimum(1, sums / threshold) if threshold > 0 else np.ones(len(sums))
    else:
        weights = (sums >= threshold).astype(np.float64)
    weights = np.where(linked, weights, 0)
    if not weights.any():
        highest = float(sums.max(initial=0))
        raise ValueError(
            f"no node is active: the highest sum of scores is {highest:g} and the threshold "
            f"{threshold:g}: lower the threshold, or give the graph edges"
        )
    return weights.astype(np.float32)
