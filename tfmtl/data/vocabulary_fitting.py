"""Learns the vocabularies of a training log and its history."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tfmtl.data.arrow_columns import identifiers
from tfmtl.data.feature_columns import list_values
from tfmtl.data.interaction_log import InteractionLog, LogError, TrainingLog
from tfmtl.data.vocabulary import Vocabulary
from tfmtl.schema import ITEM_ID, USER_ID, Feature, Schema


def fit_vocabularies(
    train: TrainingLog,
    history: TrainingLog | None,
    grown_from: dict[str, Vocabulary] | None = None,
) -> dict[str, Vocabulary]:
    """Vocabularies of the ids and of every feature that owns one.

    Values are counted per row of the logs, also where they live in a table of users or items.

    Args:
        train: Rows to learn from.
        history: Earlier rows, whose schema may have fewer features.
        grown_from: Vocabularies whose ids keep their numbers; what else the logs show often enough
            follows them.

    Returns:
        `user_id`, `item_id` and feature names to vocabularies.

    Raises:
        LogError: If a column does not hold ids, a shared vocabulary does not exist, or the two
            logs hold ids of different types.
    """
    schema = train.schema
    logs = (train,) if history is None else (train, history)
    vocabularies: dict[str, Vocabulary] = {}

    def add(name: str, fitted: Vocabulary, what: str) -> None:
        try:
            vocabularies[name] = fitted if grown_from is None else grown_from[name].grow(fitted)
        except ValueError as error:
            raise LogError(f"{what}: {error}") from error

    if schema.has_ids:
        for name, side in ((USER_ID, "user"), (ITEM_ID, "item")):
            add(name, _fit([(log.entity_ids(side), None) for log in logs], None, name), name)
    owners = {vocabulary_owner(schema, f) for f in schema.features if f.has_vocabulary}
    for feature in schema.features:
        if feature.name in owners:
            sources = [
                _values(log, own)
                for log in logs
                if (own := find_feature(log.schema, feature.name)) is not None
            ]
            what = f"feature {feature.name!r}"
            add(feature.name, _fit(sources, feature, what), what)
    return vocabularies


def find_feature(schema: Schema, name: str) -> Feature | None:
    """The feature called `name`, or `None`."""
    return next((feature for feature in schema.features if feature.name == name), None)


def vocabulary_owner(schema: Schema, feature: Feature) -> str:
    """Name of the vocabulary that the feature's ids come from.

    Args:
        schema: The schema.
        feature: A feature of it that holds ids.

    Returns:
        `user_id`, `item_id` or the name of the feature that owns the vocabulary.

    Raises:
        LogError: If the feature shares a vocabulary that does not exist, or its own.

    Example:
        >>> from tfmtl.schema import Task
        >>> seen = Feature(name="seen", kind="sequence", vocabulary="item_id")
        >>> vocabulary_owner(Schema(tasks=[Task(name="click")], features=[seen]), seen)
        'item_id'
    """
    passed = [feature.name]
    while feature.vocabulary is not None:
        name = feature.vocabulary
        if name in (USER_ID, ITEM_ID) and schema.has_ids:
            return name
        shared = find_feature(schema, name)
        if shared is None or not shared.has_vocabulary or name in passed:
            known = [f.name for f in schema.features if f.has_vocabulary and f.name != passed[0]]
            raise LogError(
                f"feature {passed[0]!r}: no vocabulary {name!r} to share; expected one of "
                f"{([USER_ID, ITEM_ID] if schema.has_ids else []) + known}, and no cycle"
            )
        passed.append(name)
        feature = shared
    return feature.name


def rows_per_entity(log: InteractionLog, feature: Feature) -> np.ndarray | None:
    """How many rows of the log stand behind each value of a feature's column.

    Args:
        log: The log.
        feature: A feature of its schema.

    Returns:
        `int64 [entities]`, rows of the log per row of the feature's table; `None` for a feature
        that lives in the rows of the log.
    """
    table = log.table(feature.side)
    if table is None or not log.in_table(feature):
        return None
    return np.bincount(log.entity_index(feature.side) + 1, minlength=table.num_rows + 1)[1:]


def _values(log: InteractionLog, feature: Feature) -> tuple[pa.Array, np.ndarray | None]:
    """Ids of a feature in one log, and how many rows each stands for; `None` is one each."""
    counts = rows_per_entity(log, feature)
    table = log.rows if counts is None else log.table(feature.side)
    assert table is not None
    if feature.is_list:
        values, lengths = list_values(table[feature.source], feature)
        return values, None if counts is None else np.repeat(counts, lengths)
    try:
        return identifiers(table[feature.source]), counts
    except (TypeError, ValueError) as error:
        raise LogError(f"feature {feature.name!r}, column {feature.source!r}: {error}") from error


def buckets_of(feature: Feature | None) -> int:
    """Encoded ids that the unknown ids of a vocabulary are hashed into.

    Args:
        feature: The feature that owns the vocabulary; `None` for the ids of users and items.

    Example:
        >>> buckets_of(Feature(name="device", hash_buckets=1000))
        1000
    """
    return 0 if feature is None else feature.hash_buckets or feature.oov_buckets


def _fit(
    sources: list[tuple[pa.Array, np.ndarray | None]], feature: Feature | None, what: str
) -> Vocabulary:
    buckets = buckets_of(feature)
    sources = [pair for pair in sources if pair[0].null_count < len(pair[0])]
    if not sources:
        return Vocabulary([], buckets)
    kinds = sorted({str(values.type) for values, _ in sources})
    if len(kinds) > 1:
        raise LogError(
            f"{what}: values are {kinds} in the training log and the history: cast one to the "
            "type of the other"
        )
    if feature is not None and feature.hash_buckets is not None:
        return Vocabulary(sources[0][0][:0], buckets)
    counts = [np.ones(len(v), np.int64) if c is None else c for v, c in sources]
    return Vocabulary.fit(
        pa.concat_arrays([values for values, _ in sources]),
        1 if feature is None else feature.min_count,
        np.concatenate(counts),
        buckets,
    )
