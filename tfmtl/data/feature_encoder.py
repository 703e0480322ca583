"""Turns the rows of a log, and its users and items, into the arrays a model reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tfmtl.data.array_store import content_digest, read_arrays, write_arrays
from tfmtl.data.arrow_columns import to_ids
from tfmtl.data.causal_statistics import CausalStatistics
from tfmtl.data.encoded_log import EncodedLog
from tfmtl.data.entity_columns import fill_column, rows_of_vocabulary
from tfmtl.data.entity_table import EntityTable
from tfmtl.data.feature_columns import (
    categorical_ids,
    list_values,
    numeric_values,
    padded_ids,
    vector_values,
)
from tfmtl.data.input_spec import InputSpec
from tfmtl.data.interaction_log import (
    HeldOutLog,
    InteractionLog,
    LogError,
    TrainingLog,
    require_training,
)
from tfmtl.data.statistics_config import StatisticsConfig
from tfmtl.data.vocabulary import Vocabulary
from tfmtl.data.vocabulary_fitting import (
    buckets_of,
    find_feature,
    fit_vocabularies,
    rows_per_entity,
    vocabulary_owner,
)
from tfmtl.schema import ITEM_ID, USER_ID, Feature, Schema

FORMAT_VERSION = 2
# What has neither buckets nor grown vocabularies reads in version 2 as it did in version 1. It is
# still written as such, because graphs hold the fingerprint of their encoder.
_FIRST_VERSION = 1
_STATISTICS = "statistics"
_ID_SIDES: tuple[tuple[str, Literal["user", "item"]], ...] = ((USER_ID, "user"), (ITEM_ID, "item"))


class FeatureEncoderError(ValueError):
    """A saved encoder cannot be read, or is not of this version."""


@dataclass(frozen=True, eq=False)
class FeatureEncoder:
    """Vocabularies, scales and statistics of one training log.

    Everything that is counted comes from training rows, and for vocabularies and statistics also
    from the history: ids and categories are numbered from 1, with 0 for missing ones and, unless
    their feature has buckets, for those out of vocabulary, see `Vocabulary`; numeric features are
    transformed and then standardised by the mean and deviation of the training rows; vectors pass
    through unchanged, with zeros for a missing one. An entity that is absent from the table of its
    side has ids 0, numbers 0, which is the training mean, and vectors of zeros.

    Args:
        schema: Schema of the training log.
        vocabularies: `user_id`, `item_id` and the features that own a vocabulary.
        scales: Numeric feature to its mean and deviation over the training rows.
        tables: `user` and `item` to their encoded features.
        statistics: Causal statistics; `None` when there are none.
        train_fingerprint: Fingerprint of the log that was fitted.
        history_fingerprint: Fingerprint of the history; `None` without.
        grown_from: Fingerprint of the encoder that this one was grown from; `None` for one that
            was fitted.

    Example:
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")], features=[Feature(name="tab")])
        >>> rows = {"user_id": [7, 9], "item_id": ["b", "a"], "tab": ["x", None], "click": [1, 0]}
        >>> train = TrainingLog(pa.table(rows), schema)
        >>> encoder = FeatureEncoder.fit(train)
        >>> {name: ids.tolist() for name, ids in encoder.encode(train).features.items()}
        {'user_id': [1, 2], 'item_id': [2, 1], 'tab': [1, 0]}
    """

    schema: Schema
    vocabularies: dict[str, Vocabulary]
    scales: dict[str, tuple[float, float]]
    tables: dict[str, EntityTable]
    statistics: CausalStatistics | None
    train_fingerprint: str
    history_fingerprint: str | None
    grown_from: str | None = None

    @classmethod
    def fit(
        cls,
        train: TrainingLog,
        history: TrainingLog | None = None,
        statistics: StatisticsConfig | None = None,
    ) -> FeatureEncoder:
        """Learns how to encode from training rows.

        Args:
            train: Rows to learn from.
            history: Earlier rows that extend vocabularies and statistics. Its schema may have
                fewer features and tasks than that of `train`, and no time.
            statistics: Settings of the causal statistics; `None` leaves them out.

        Returns:
            The encoder.

        Raises:
            TypeError: If a log is not a `TrainingLog`.
            LogError: If a task has no positive training row, a numeric feature without `fill` has
                missing values, a column is not of its feature's kind, no id occurs in the
                table of its side, or a shared vocabulary does not exist.
        """
        logs = _checked_logs(train, history, "fitting a FeatureEncoder")
        schema = train.schema
        encoder = cls(
            schema=schema,
            vocabularies=fit_vocabularies(train, history),
            scales={f.name: _scale(train, f) for f in schema.features if f.kind == "numeric"},
            tables={},
            statistics=(
                None if statistics is None else CausalStatistics.fit(train, history, statistics)
            ),
            train_fingerprint=train.fingerprint(),
            history_fingerprint=None if history is None else history.fingerprint(),
        )
        if schema.has_ids:
            encoder.tables.update({side: encoder._build_table(side, logs) for _, side in _ID_SIDES})
        return encoder

    def grow(self, train: TrainingLog, history: TrainingLog | None = None) -> FeatureEncoder:
        """An encoder of newer rows under which a model trained with this one stays valid.

        Every encoded id keeps its meaning, and ids that are new and occur `min_count` times follow
        them; scales stay as they are, those of the statistics too. What describes the rows is
        learned anew: statistics, and the features of users and items, where one that lives in rows
        of the log keeps its latest value. `tfmtl.models.carry_weights` takes the weights along.

        Args:
            train: Rows to train on from now on, old ones among them or not. Occurrences are
                counted in these logs alone: an id that comes up once a night needs a log or a
                history of several nights.
            history: Earlier rows, as in `fit`.

        Returns:
            The encoder of `train`; this one is left as it is.

        Raises:
            TypeError: If a log is not a `TrainingLog`.
            LogError: If the log has another schema, ids of another type than before, or is one that
                `fit` refuses.

        Example:
            >>> from tfmtl.schema import Schema, Task
            >>> schema = Schema(tasks=[Task(name="click")])
            >>> night = {"user_id": [7, 9], "item_id": ["b", "c"], "click": [1, 0]}
            >>> encoder = FeatureEncoder.fit(TrainingLog(pa.table(night), schema))
            >>> next_night = {"user_id": [8, 9], "item_id": ["a", "c"], "click": [1, 0]}
            >>> grown = encoder.grow(TrainingLog(pa.table(next_night), schema))
            >>> grown.vocabularies["item_id"].values.tolist()
            ['b', 'c', 'a']
        """
        logs = _checked_logs(train, history, "growing a FeatureEncoder")
        self._check_schema(train)
        statistics = None
        if self.statistics is not None:
            kept = self.statistics
            scale = kept.mean, kept.std
            statistics = CausalStatistics.fit(train, history, kept.config, scale)
        encoder = replace(
            self,
            vocabularies=fit_vocabularies(train, history, self.vocabularies),
            tables={},
            statistics=statistics,
            train_fingerprint=train.fingerprint(),
            history_fingerprint=None if history is None else history.fingerprint(),
            grown_from=self.fingerprint(),
        )
        for _, side in _ID_SIDES:
            if side in self.tables:
                encoder.tables[side] = encoder._build_table(side, logs, self.tables[side])
        return encoder

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The model's inputs: ids, features in the order of the schema, statistics."""
        specs = []
        if self.schema.has_ids:
            specs += [
                InputSpec(name, "categorical", side, self.vocabularies[name].size, 1, name)
                for name, side in _ID_SIDES
            ]
        for feature in self.schema.features:
            if feature.kind == "numeric" or feature.kind == "vector":
                specs.append(
                    InputSpec(
                        feature.name,
                        "numeric",
                        feature.side,
                        0,
                        feature.width,
                        vector=feature.kind == "vector",
                    )
                )
                continue
            owner = vocabulary_owner(self.schema, feature)
            specs.append(
                InputSpec(
                    feature.name,
                    "list" if feature.is_list else "categorical",
                    feature.side,
                    self.vocabularies[owner].size,
                    feature.width,
                    owner,
                    list_kind=None if feature.kind == "categorical" else feature.kind,
                )
            )
        if self.statistics is not None:
            width = len(self.statistics.names)
            specs.append(InputSpec(_STATISTICS, "numeric", "context", 0, width, None))
        return tuple(specs)

    def encode(self, log: InteractionLog) -> EncodedLog:
        """Encodes the rows of a log.

        The training log gets causal (or out-of-fold) statistics, a held-out log those of the
        frozen tables.

        Args:
            log: The log that was fitted, or a `HeldOutLog`; also the history, when there are no
                statistics.

        Returns:
            The rows as arrays, with one entry of `features` per entry of `inputs`.

        Raises:
            TypeError: If the log is neither a `TrainingLog` nor a `HeldOutLog`.
            LogError: If the log is another training log, has another schema, or its columns
                cannot be encoded.
        """
        self._check_encodable(log)
        schema = self.schema
        features: dict[str, np.ndarray] = {}
        if schema.has_ids:
            for name, side in _ID_SIDES:
                features[name] = _encode_ids(self.vocabularies[name], log.entity_ids(side), name)
        places = {side: log.entity_index(side) + 1 for side in ("user", "item") if log.table(side)}
        for feature in schema.features:
            table = log.table(feature.side)
            if table is not None and log.in_table(feature):
                encoded = self._encode_column(table[feature.source], feature, f"{feature.side}s")
                features[feature.name] = _with_unknown(encoded)[places[feature.side]]
            else:
                features[feature.name] = self._encode_column(
                    log.rows[feature.source], feature, "the log"
                )
        if self.statistics is not None:
            features[_STATISTICS] = (
                self.statistics.training_columns(log)
                if isinstance(log, TrainingLog)
                else self.statistics.transform(log)
            )
        labels = {name: log.labels(name) for name in schema.task_names}
        groups = None
        if schema.has_ids:
            codes = log.entity_ids("user").dictionary_encode().indices
            groups = codes.to_numpy().astype(np.int64)
        return EncodedLog(
            features=features,
            weights={name: (~np.isnan(x)).astype(np.float32) for name, x in labels.items()},
            labels={name: np.nan_to_num(x, nan=0.0) for name, x in labels.items()},
            times=log.times,
            groups=groups,
            is_training=isinstance(log, TrainingLog),
        )

    def entity_table(self, side: Literal["user", "item"]) -> EntityTable:
        """Encoded features of every user or item of the feature table, training and history.

        A feature that lives in the rows of the log has its latest training value, or, for an
        entity of the history only, its latest value there.

        Args:
            side: `user` or `item`.

        Returns:
            The table, with a column per input of that side, row 0 for unknown entities.

        Raises:
            LogError: If the log has no such entities.
        """
        if side not in self.tables:
            raise LogError(f"no table of {side!r}; expected one of {sorted(self.tables)}")
        return self.tables[side]

    def node_features(self, side: Literal["user", "item"]) -> dict[str, np.ndarray]:
        """The columns of `entity_table` by encoded id instead of by key.

        Args:
            side: `user` or `item`.

        Returns:
            Input to `[vocabulary_size, ...]`; row 0 is all zeros.

        Raises:
            LogError: If the log has no such entities.
        """
        columns = self.entity_table(side).columns
        name = USER_ID if side == "user" else ITEM_ID
        ids = columns[name]
        known = np.flatnonzero(ids)
        nodes = {}
        for column_name, column in columns.items():
            node = np.zeros((self.vocabularies[name].size, *column.shape[1:]), column.dtype)
            node[ids[known]] = column[known]
            nodes[column_name] = node
        return nodes

    def fingerprint(self) -> str:
        """SHA-256 of all that `save` writes."""
        return content_digest(*self._content())

    def save(self, folder: str | Path) -> None:
        """Writes `encoder.json` and `encoder.npz`, each aside and then renamed.

        The columns of the training rows are not saved: encoding the training log computes them
        again.

        Args:
            folder: Folder to write to; made when missing.
        """
        write_arrays(Path(folder), "encoder", *self._content())

    @classmethod
    def load(cls, folder: str | Path) -> FeatureEncoder:
        """Reads what `save` wrote.

        Args:
            folder: Folder with `encoder.json` and `encoder.npz`.

        Raises:
            FeatureEncoderError: If a file is missing, damaged, or of another format version.
        """
        try:
            document, arrays = read_arrays(Path(folder), "encoder")
        except ValueError as error:
            raise FeatureEncoderError(f"{error}: save the encoder again") from error
        version = document.get("format_version")
        if version not in (_FIRST_VERSION, FORMAT_VERSION):
            raise FeatureEncoderError(
                f"{folder}: encoder of format version {version}; expected {_FIRST_VERSION} or "
                f"{FORMAT_VERSION}: fit and save it again with this version of tfmtl"
            )
        schema = Schema.model_validate(document["schema"])
        statistics = None
        if document["statistics"] is not None:
            statistics = CausalStatistics.from_arrays(
                StatisticsConfig.model_validate(document["statistics"]),
                schema.task_names,
                arrays,
            )
        return cls(
            schema=schema,
            vocabularies={
                # In the order in which they were saved: a grown vocabulary is not sorted.
                name: Vocabulary(
                    arrays[f"vocabulary/{name}"],
                    buckets_of(find_feature(schema, name)),
                    sort=False,
                )
                for name in document["vocabularies"]
            },
            scales={name: (mean, std) for name, (mean, std) in document["scales"].items()},
            tables={
                side: EntityTable(
                    keys=arrays[f"table/{side}/keys"],
                    columns={name: arrays[f"table/{side}/column/{name}"] for name in names},
                    statistics_rows={
                        entity: arrays[f"table/{side}/statistics/{entity}"]
                        for entity in document["statistics_rows"][side]
                    },
                )
                for side, names in document["tables"].items()
            },
            statistics=statistics,
            train_fingerprint=document["train_fingerprint"],
            history_fingerprint=document["history_fingerprint"],
            grown_from=document.get("grown_from"),
        )

    def _content(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        statistics = self.statistics
        buckets = any(vocabulary.buckets for vocabulary in self.vocabularies.values())
        is_new = buckets or self.grown_from is not None
        document = {
            "format_version": FORMAT_VERSION if is_new else _FIRST_VERSION,
            "schema": self.schema.to_dict(),
            "vocabularies": list(self.vocabularies),
            "scales": {name: list(scale) for name, scale in self.scales.items()},
            "tables": {side: list(table.columns) for side, table in self.tables.items()},
            "statistics_rows": {
                side: list(table.statistics_rows) for side, table in self.tables.items()
            },
            "statistics": None if statistics is None else statistics.config.model_dump(mode="json"),
            "train_fingerprint": self.train_fingerprint,
            "history_fingerprint": self.history_fingerprint,
        }
        if self.grown_from is not None:
            document["grown_from"] = self.grown_from
        arrays = {f"vocabulary/{name}": v.values for name, v in self.vocabularies.items()}
        for side, table in self.tables.items():
            arrays[f"table/{side}/keys"] = table.keys
            for name, column in table.columns.items():
                arrays[f"table/{side}/column/{name}"] = column
            for entity, rows in table.statistics_rows.items():
                arrays[f"table/{side}/statistics/{entity}"] = rows
        if statistics is not None:
            arrays |= statistics.to_arrays()
        return document, arrays

    def _check_encodable(self, log: InteractionLog) -> None:
        if not isinstance(log, TrainingLog | HeldOutLog):
            raise TypeError(
                f"encoding needs a TrainingLog or a HeldOutLog; received {type(log).__name__}: "
                "split the log first, e.g. split_by_time(log, validation_from, test_from)"
            )
        self._check_schema(log)
        if isinstance(log, HeldOutLog) or log.fingerprint() == self.train_fingerprint:
            return
        if self.statistics is None and log.fingerprint() == self.history_fingerprint:
            return
        raise LogError(
            f"received a TrainingLog of {len(log)} rows that the encoder was not fitted on, so "
            "what its rows may know is unknown: fit an encoder on it, or encode rows that were "
            "held out as a HeldOutLog"
        )

    def _check_schema(self, log: InteractionLog) -> None:
        if log.schema != self.schema:
            raise LogError(
                "the log has another schema than the one the encoder was fitted with: give the "
                "log the encoder's schema, or fit an encoder on this one"
            )

    def _encode_column(self, column: pa.ChunkedArray, feature: Feature, place: str) -> np.ndarray:
        if feature.kind == "numeric":
            mean, std = self.scales[feature.name]
            numbers = numeric_values(column, feature, place)
            return ((numbers - mean) / std).astype(np.float32)
        if feature.kind == "vector":
            return vector_values(column, feature, place)
        vocabulary = self.vocabularies[vocabulary_owner(self.schema, feature)]
        if feature.is_list:
            return padded_ids(*list_values(column, feature), feature, vocabulary)
        return categorical_ids(column, feature, vocabulary)

    def _build_table(
        self,
        side: Literal["user", "item"],
        logs: tuple[TrainingLog, ...],
        before: EntityTable | None = None,
    ) -> EntityTable:
        name = USER_ID if side == "user" else ITEM_ID
        table_keys = logs[0].entity_keys(side)
        sources = [self.vocabularies[name].values]
        if table_keys is not None:
            sources.append(to_ids(table_keys))
        keys = Vocabulary(np.concatenate(sources))
        columns = {name: self.vocabularies[name].encode(keys.values)}
        for feature in self.schema.features_of(side):
            width = (feature.width,) if feature.is_list or feature.kind == "vector" else ()
            kind = np.int32 if feature.has_vocabulary else np.float32
            column = np.zeros((keys.size - 1, *width), kind)
            if before is not None and not logs[0].in_table(feature):
                # Of those that the logs do not show, the latest value is the one known before.
                places = Vocabulary(before.keys).encode(keys.values)
                column[:] = before.columns[feature.name][places]
            fill_column(column, keys, logs, side, feature, self._encode_column)
            columns[feature.name] = column
        rows = {}
        for entity, vocabulary in self._statistics_vocabularies().items():
            if entity == name:
                rows[entity] = vocabulary.encode(keys.values)
            elif (own := find_feature(self.schema, entity)) is not None and own.side == side:
                rows[entity] = np.zeros(keys.size - 1, np.int32)
                encode = partial(rows_of_vocabulary, vocabulary=vocabulary)
                fill_column(rows[entity], keys, logs, side, own, encode)
        return EntityTable(
            keys.values,
            {n: _with_unknown(c) for n, c in columns.items()},
            {entity: _with_unknown(r) for entity, r in rows.items()},
        )

    def _statistics_vocabularies(self) -> dict[str, Vocabulary]:
        return {} if self.statistics is None else self.statistics.vocabularies


def _checked_logs(
    train: TrainingLog, history: TrainingLog | None, purpose: str
) -> tuple[TrainingLog, ...]:
    logs = (train,) if history is None else (train, history)
    for log in logs:
        require_training(log, purpose)
    _check_positives(train)
    _check_joins(train)
    return logs


def _with_unknown(encoded: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(encoded[:1]), encoded])


def _encode_ids(vocabulary: Vocabulary, ids: pa.Array, name: str) -> np.ndarray:
    try:
        return vocabulary.encode(ids)
    except ValueError as error:
        raise LogError(f"{name}: {error}") from error


def _scale(train: TrainingLog, feature: Feature) -> tuple[float, float]:
    counts = rows_per_entity(train, feature)
    table = train.rows if counts is None else train.table(feature.side)
    assert table is not None
    place = "the training log" if counts is None else f"{feature.side}s"
    numbers = numeric_values(table[feature.source], feature, place)
    if feature.transform == "none":
        return 0.0, 1.0
    mean = float(np.average(numbers, weights=counts))
    std = float(np.sqrt(np.average((numbers - mean) ** 2, weights=counts)))
    # A constant column has a deviation of rounding errors, not of zero.
    return mean, std if std > 1e-9 * abs(mean) else 1.0


def _check_positives(train: TrainingLog) -> None:
    for name in train.schema.task_names:
        labels = train.labels(name)
        if not (labels == 1).any():
            raise LogError(
                f"task {name!r} has no positive among {np.count_nonzero(~np.isnan(labels))} "
                f"defined of {len(train)} training rows: check its column and positive rule, "
                "train on more rows, or leave the task out"
            )


def _check_joins(train: TrainingLog) -> None:
    for side in ("user", "item"):
        joined = any(f.side == side and train.in_table(f) for f in train.schema.features)
        if joined and (train.entity_index(side) < 0).all():
            raise LogError(
                f"no {side} id of the training log occurs in {side}s: check that both use the "
                "same ids"
            )
