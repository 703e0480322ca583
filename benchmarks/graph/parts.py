"""The measurements by name, each callable in a process of its own."""

from __future__ import annotations

import resource
from pathlib import Path

from benchmarks.graph import sampling, scale, similarity, training

PARTS = ("sampling", "similarity", "scale", "training")


def measure(part: str, data_dir: Path | None, pyg_python: Path | None) -> dict[str, object]:
    """The figures of one part, and the peak memory of the process it ran in."""
    results: dict[str, object] = {
        "sampling": sampling.measure,
        "similarity": similarity.measure,
        "scale": scale.measure,
        "training": lambda: training.measure(data_dir, pyg_python),
    }[part]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**results, f"{part}_peak_gb": peak}
