"""What every dataset loader returns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from tfmtl.data.interaction_log import InteractionLog, TrainingLog
from tfmtl.data.splits import Split
from tfmtl.datasets.dataset_error import DatasetError


@dataclass(frozen=True)
class LoadedDataset:
    """A log with its recommended split, and the terms under which it may be used.

    Args:
        name: Name in the registry, e.g. `movielens-1m`.
        log: Every row of the three parts of `split`.
        history: Rows older than all of `log`, for graphs and counts, and for training after
            `with_history_in_training`; their labels may be undefined for some tasks and their
            context may be missing. `None` where there are none.
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

    def with_history_in_training(self) -> LoadedDataset:
        """The same dataset with the rows of its history moved into the training part.

        A task learns from the rows that define it, so a history that knows some behaviours only
        still adds to what those say about users and items.

        Returns:
            A dataset whose training part holds the rows of both, in the order of time, and whose
            history is `None`. `log` stays.

        Raises:
            DatasetError: If there is no history.

        Example:
            >>> from tfmtl.datasets import load
            >>> load("simulator", num_users=9, num_items=9, num_rows=99).with_history_in_training()
            Traceback (most recent call last):
            tfmtl.datasets.dataset_error.DatasetError: 'simulator' has no history to train on: \
leave dataset.train_on_history out
        """
        if self.history is None:
            raise DatasetError(
                f"{self.name!r} has no history to train on: leave dataset.train_on_history out"
            )
        rows = pa.concat_tables(
            [self.history.rows, self.split.train.rows], promote_options="permissive"
        )
        train = replace(self.split.train, rows=rows)
        if train.times is not None:
            train = train.select(np.argsort(train.times, kind="stable"))
        return replace(self, history=None, split=replace(self.split, train=train))
