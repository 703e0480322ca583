"""How the measurements grow from the smallest log to the largest, and what they may reach."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

BARS = {
    "build_growth": 1.5,
    "training_growth": 1.1,
    "inference_growth": 1.1,
    "build_peak_gb": 8.0,
}


def build_growths(sizes: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Growth of the time per edge from the smallest size to the largest.

    `build_growth_of_last` starts at the second largest, where k-means, which costs the same for
    all large logs, weighs little.
    """
    seconds = [sizes[size]["build_s_per_million_edges"] for size in sorted(sizes)]
    return {
        "build_growth": seconds[-1] / seconds[0],
        "build_growth_of_last": seconds[-1] / seconds[max(len(seconds) - 2, 0)],
    }


def call_growth(rounds: Sequence[Mapping[int, float]]) -> float:
    """Median over rounds of the largest size's time over the smallest's in the same round."""
    return statistics.median(own[max(own)] / own[min(own)] for own in rounds)
