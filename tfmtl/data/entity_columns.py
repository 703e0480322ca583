"""Columns of entity tables: one value per user or item from a feature table or from rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pyarrow as pa

from tfmtl.data.feature_columns import categorical_ids
from tfmtl.data.interaction_log import TrainingLog
from tfmtl.data.vocabulary import Vocabulary
from tfmtl.data.vocabulary_fitting import find_feature
from tfmtl.schema import Feature


def rows_of_vocabulary(
    column: pa.ChunkedArray, feature: Feature, place: str, vocabulary: Vocabulary
) -> np.ndarray:
    """A categorical column as ids of `vocabulary`; `place` is taken for `fill_column`'s sake."""
    del place
    return categorical_ids(column, feature, vocabulary)


def fill_column(
    target: np.ndarray,
    keys: Vocabulary,
    logs: tuple[TrainingLog, ...],
    side: Literal["user", "item"],
    feature: Feature,
    encode: Callable[[pa.ChunkedArray, Feature, str], np.ndarray],
) -> None:
    """Writes the feature of each entity of `keys` to its row of `target`.

    Args:
        target: Column to fill, `[entities, ...]`.
        keys: Raw ids of the entities; id r is row r - 1.
        logs: Training log, then the history when there is one.
        side: Whose feature it is.
        feature: The feature; its value is the table's, else the latest in the rows.
        encode: Encodes a raw column of a feature; the last argument says where it comes from.
    """
    table, table_keys = logs[0].table(side), logs[0].entity_keys(side)
    if table is not None and logs[0].in_table(feature):
        target[keys.encode(table_keys) - 1] = encode(table[feature.source], feature, f"{side}s")
        return
    # History first, so that training rows have the last word.
    for log in reversed(logs):
        own = find_feature(log.schema, feature.name)
        if own is None:
            continue
        entities = keys.encode(log.entity_ids(side)) - 1
        times = log.times
        order = np.arange(len(log)) if times is None else np.argsort(times, kind="stable")
        latest = np.full(len(target), -1)
        latest[entities[order]] = order
        seen = np.flatnonzero(latest >= 0)
        values = log.column(own).take(pa.array(latest[seen]))
        target[seen] = encode(values, own, "the log")
