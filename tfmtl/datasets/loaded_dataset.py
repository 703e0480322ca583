"""What every dataset loader returns."""

from __future__ import annotations

from dataclasses import dataclass

from tfmtl.data.interaction_log import InteractionLog, TrainingLog
from tfmtl.data.splits import Split


@dataclass(frozen=True)
class LoadedDataset:
    """A log with its recommended split, and the terms under which it may be used.

    Args:
        name: Name in the registry, e.g. `movielens-1m`.
        log: Every row of the three parts of `split`.
        history: Rows older than all of `log`, for graphs and counts only; their labels may be
            undefined for some tasks. `None` where there are none.
        split: Training, validation and test rows.
        licence: Terms of the data, in one sentence.
        citation: What to cite; empty for a log of one's own.

    Example:
        >>> from tfmtl.datasets import load
        >>> dataset = load("simulator", num_users=50, num_items=40, num_rows=1000)
        >>> len(dataset.split.train), len(dataset.split.validation), len(dataset.split.test)
        (800, 100, 100)
    """

    name: str
    log: InteractionLog
    history: TrainingLog | None
    split: Split
    licence: str
    citation: str
