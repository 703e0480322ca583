"""One trial of a tuning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Trial:
    """Result of one setting on the validation rows.

    Args:
        values: Dotted name of each tuned field to its value.
        score: Mean over tasks of the metric that selects; None where the trial failed.
        seconds: Wall-clock time of training and scoring; of the last attempt where the trial was
            interrupted.
        failure: What went wrong; None where nothing did.

    Example:
        >>> Trial({"training.learning_rate": 0.001}, score=0.71, seconds=4.5).failure is None
        True
    """

    values: Mapping[str, Any]
    score: float | None
    seconds: float
    failure: str | None = None

    def write(self, path: Path) -> None:
        """Writes the trial as JSON.

        Args:
            path: The file.
        """
        aside = path.with_suffix(".partial")
        aside.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")
        aside.replace(path)

    @classmethod
    def read(cls, path: Path) -> Trial:
        """Reads a trial back.

        Args:
            path: The file.

        Raises:
            ValueError: If the file is damaged.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is not a trial's result: delete it and tune again") from error
