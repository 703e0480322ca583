"""Telemetry of a run, as it was at its best epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from tfmtl.training import Experiment, RunFolder


def read_telemetry(folder: Path) -> dict[str, float]:
    """Telemetry of a run's best epoch, whose weights its metrics are of.

    Args:
        folder: The run's folder.

    Returns:
        Values by the names that `Telemetry` gives them; none for a run without telemetry.

    Raises:
        ExperimentError: If the folder's experiment cannot be read.

    Example:
        >>> read_telemetry(Path("no/such/run"))
        {}
    """
    run = RunFolder(Path(folder))
    if not run.history.exists():
        return {}
    with run.history.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else ()) if name.startswith("telemetry/")]
    if not names:
        return {}
    monitor = Experiment.from_yaml(run.experiment).training.monitor
    sign = -1 if monitor == "log_loss" else 1

    def score(row: Mapping[str, str]) -> float:
        return sign * float(row[f"val_{monitor}"])

    # As training chooses: the first of equal epochs, and the first where none has a value.
    scored = [row for row in rows if not math.isnan(score(row))]
    best = max(scored or rows[:1], key=score)
    return {name: float(best[name]) for name in names}
