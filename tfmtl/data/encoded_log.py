"""A log as the arrays that batches are gathered from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class EncodedLog:
    """Encoded columns of n rows.

    Args:
        features: Model inputs by name: categorical `int32 [n]`, list `int32 [n, width]` padded
            right with 0, numeric `float32 [n]`, `statistics` `float32 [n, W]`.
        labels: Task to `float32 [n]` of 0 and 1; 0 where the task is undefined.
        weights: Task to `float32 [n]`: 1 where the task is defined, else 0.
        times: Time per row, `int64 [n]` or `float64 [n]`; `None` for a log without times.
        groups: User per row, `int64 [n]`, for metrics per user: distinct for distinct raw ids,
            also for those out of the vocabulary; `None` for a log without users.
        is_training: Whether a model may be fitted on the rows.

    Example:
        >>> one = np.ones(2, np.float32)
        >>> features = {"user_id": np.array([1, 0], np.int32)}
        >>> len(EncodedLog(features, {"click": one}, {"click": one}, None, None, True))
        2
    """

    features: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    times: np.ndarray | None
    groups: np.ndarray | None
    is_training: bool

    def __len__(self) -> int:
        return len(next(iter(self.labels.values())))
