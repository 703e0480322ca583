"""Encoded features of every known user or item."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class EntityTable:
    """One row per entity, after a row 0 that stands for every unknown one.

    Args:
        keys: Raw ids, sorted, `int64 [n]` or `object [n]` of `str`.
        columns: Encoded inputs of the side by name, `[n + 1, ...]`: row r describes
            `keys[r - 1]`; row 0 is all zeros. `user_id` or `item_id` holds the encoded id, which
            is 0 for an entity that training rows do not show.
        statistics_rows: For each entity of the causal statistics that is of this side, the row of
            its frozen table, `int32 [n + 1]`.

    Example:
        >>> table = EntityTable(np.array([4, 9]), {"age": np.array([0.0, -1.0, 1.0], np.float32)})
        >>> len(table)
        2
    """

    keys: np.ndarray
    columns: dict[str, np.ndarray]
    statistics_rows: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)
