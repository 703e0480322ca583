"""What is known of an entity before a row: smoothed rates and counts without leakage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tfmtl.data.arrow_columns import identifiers
from tfmtl.data.causal_sums import sums_of_earlier_rows, sums_of_other_folds, sums_per_code
from tfmtl.data.interaction_log import InteractionLog, LogError, TrainingLog, require_training
from tfmtl.data.statistics_config import StatisticsConfig
from tfmtl.data.vocabulary import Vocabulary
from tfmtl.schema import ITEM_ID, USER_ID


@dataclass(frozen=True, eq=False)
class CausalStatistics:
    """Smoothed rates per entity and task, and counts per entity, as numeric inputs.

    For an entity e, a task with P_e positives among N_e defined rows, and the global rate
    g = (P + 0.5) / (N + 1) of the same rows, the rate column is the lift in log-odds

        logit((P_e + prior * g) / (N_e + prior)) - logit(g),

    which is 0 for an entity never seen, and the count column is log(1 + rows of e). Which rows
    are counted depends on who asks:

    * a training row at time t: rows strictly earlier than t (or in earlier periods, see
      `granularity`), so rows at the same time never see each other;
    * a training row of a log without times, or with `counting: out_of_fold`: the rows of the
      other folds;
    * a held-out row or a request: all training rows, from tables that are frozen at `fit`.

    History rows count for all of these; one that is not earlier than the first training row counts
    for the frozen tables only, unless rows are counted out of fold. Every column is standardised by
    its mean and deviation over the training rows; in causal columns no other number crosses from
    later rows to earlier ones.

    Args:
        config: Settings.
        task_names: Tasks, in the order of the rate columns.
        vocabularies: Entity to its raw ids.
        past: Entity to what history adds to every training row, `int64 [n_ids + 1, 1 + 2 T]`:
            rows, then defined rows and positives per task; row 0, of missing ids, is zero.
        global_past: The same over all history rows, `int64 [1 + 2 T]`.
        mean: Mean of each column over the training rows, `float64 [W]`.
        std: Deviation of each column, `float64 [W]`, 1 for a constant one.
        tables: Entity to `(keys, float32 [n_keys + 1, w])`, row 0 for unknown ids; side by side
            in the order of `config.entities` their rows make the columns of a held-out row.
        fitted: Fingerprint and columns of the training log, kept for the first to ask.

    Example:
        >>> from tfmtl.schema import Schema, Task
        >>> rows = pa.table({"user_id": [1, 1, 2], "item_id": [4, 5, 4], "t": [1, 2, 3],
        ...                  "click": [1, 0, 1]})
        >>> train = TrainingLog(rows, Schema(tasks=[Task(name="click")], time="t"))
        >>> statistics = CausalStatistics.fit(train, None, StatisticsConfig(entities=["user_id"]))
        >>> statistics.names
        ('user_id_click_rate', 'user_id_count')
        >>> counts = statistics.training_columns(train) * statistics.std + statistics.mean
        >>> np.round(np.expm1(counts[:, 1])).tolist()
        [0.0, 1.0, 0.0]
    """

    config: StatisticsConfig
    task_names: tuple[str, ...]
    vocabularies: dict[str, Vocabulary]
    past: dict[str, np.ndarray]
    global_past: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    tables: dict[str, tuple[np.ndarray, np.ndarray]]
    fitted: tuple[str, np.ndarray] | None = None

    @classmethod
    def fit(
        cls,
        train: TrainingLog,
        history: TrainingLog | None,
        config: StatisticsConfig,
        scale: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> CausalStatistics:
        """Counts the training rows and what came before them.

        Args:
            train: Rows to learn from.
            history: Earlier rows. Its schema may have fewer features and tasks, and no time, in
                which case all of its rows count as earlier.
            config: Settings.
            scale: Mean and deviation of each column; those of the training rows when `None`.

        Returns:
            The statistics, with the frozen tables of all rows.

        Raises:
            TypeError: If a log is not a `TrainingLog`.
            LogError: If an entity is not an id or a categorical feature of the schema, or
                `granularity` is set for a log without times.
        """
        for log in (train,) if history is None else (train, history):
            require_training(log, "counting statistics")
        if config.granularity and train.times is None:
            raise LogError(
                f"granularity {config.granularity:g} needs times; received a log without: set "
                "time= in the schema, or granularity 0 for out-of-fold statistics"
            )
        task_names = train.schema.task_names
        counted = _counted_values(train, task_names)
        before: InteractionLog | None = history
        late = None
        times = _causal_times(train, config)
        if history is not None and history.times is not None and times is not None:
            earlier = history.times < times.min()
            before = history.select(earlier) if earlier.any() else None
            late = history.select(~earlier) if not earlier.all() else None
        vocabularies, past, totals = {}, {}, {}
        for entity in config.entities:
            known = [train] if history is None or not _knows(history, entity) else [train, history]
            vocabulary = Vocabulary.fit(_joined_ids(known, entity))
            past[entity] = _totals(before, entity, vocabulary, task_names)
            totals[entity] = (
                past[entity]
                + _totals(late, entity, vocabulary, task_names)
                + sums_per_code(
                    vocabulary.encode(_entity_ids(train, entity)), counted, vocabulary.size
                )
            )
            vocabularies[entity] = vocabulary
        global_past = _global_totals(before, task_names)
        unscaled = cls(
            config=config,
            task_names=task_names,
            vocabularies=vocabularies,
            past=past,
            global_past=global_past,
            mean=np.zeros(1),
            std=np.ones(1),
            tables={},
        )
        columns = unscaled._raw_training_columns(train)
        if scale is None:
            mean = columns.mean(axis=0, dtype=np.float64)
            std = columns.std(axis=0, dtype=np.float64)
            # A constant column has a deviation of rounding errors, not of zero.
            std = np.where(std > 1e-9 * np.abs(mean), std, 1.0)
        else:
            mean, std = scale
        overall = global_past + _global_totals(late, task_names) + counted.sum(axis=1)
        tables, start = {}, 0
        for entity, counts in totals.items():
            table = unscaled._columns(counts.T, overall[:, None])
            block = slice(start, start + table.shape[1])
            table = _standardised(table, mean[block], std[block])
            tables[entity] = (vocabularies[entity].values, table)
            start = block.stop
        fitted = (train.fingerprint(), _standardised(columns, mean, std))
        return dataclasses.replace(unscaled, mean=mean, std=std, tables=tables, fitted=fitted)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the W columns, e.g. `user_id_click_rate` and `user_id_count`."""
        return tuple(
            name
            for entity in self.config.entities
            for name in (
                *(f"{entity}_{task}_rate" for task in self.task_names),
                *([f"{entity}_count"] if self.config.counts else []),
            )
        )

    def training_columns(self, train: TrainingLog) -> np.ndarray:
        """Columns of the rows that the statistics were fitted on.

        Args:
            train: The log given to `fit`, or an equal one.

        Returns:
            `float32 [n, W]`, causal or out of fold.
        """
        if self.fitted is not None and self.fitted[0] == train.fingerprint():
            return self.fitted[1]
        return _standardised(self._raw_training_columns(train), self.mean, self.std)

    def transform(self, log: InteractionLog) -> np.ndarray:
        """Columns of rows outside training, from the frozen tables.

        Args:
            log: Rows that were not counted.

        Returns:
            `float32 [n, W]`.
        """
        return np.concatenate(
            [
                self.tables[entity][1][vocabulary.encode(_entity_ids(log, entity))]
                for entity, vocabulary in self.vocabularies.items()
            ],
            axis=1,
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that `from_arrays` needs besides the settings and the tasks."""
        arrays = {
            "statistics/mean": self.mean,
            "statistics/std": self.std,
            "statistics/global_past": self.global_past,
        }
        for entity, (keys, table) in self.tables.items():
            arrays[f"statistics/{entity}/keys"] = keys
            arrays[f"statistics/{entity}/table"] = table
            arrays[f"statistics/{entity}/past"] = self.past[entity]
        return arrays

    @classmethod
    def from_arrays(
        cls, config: StatisticsConfig, task_names: tuple[str, ...], arrays: dict[str, np.ndarray]
    ) -> CausalStatistics:
        """The statistics whose `to_arrays` gave `arrays`.

        Args:
            config: Settings they were fitted with.
            task_names: Tasks they were fitted on.
            arrays: Arrays by name; others than those of `to_arrays` may be among them.
        """
        keys = {entity: arrays[f"statistics/{entity}/keys"] for entity in config.entities}
        return cls(
            config=config,
            task_names=task_names,
            vocabularies={entity: Vocabulary(values) for entity, values in keys.items()},
            past={entity: arrays[f"statistics/{entity}/past"] for entity in keys},
            global_past=arrays["statistics/global_past"],
            mean=arrays["statistics/mean"],
            std=arrays["statistics/std"],
            tables={e: (values, arrays[f"statistics/{e}/table"]) for e, values in keys.items()},
        )

    def _raw_training_columns(self, train: TrainingLog) -> np.ndarray:
        counted = _counted_values(train, self.task_names)
        sums = self._sums_seen_by_row(train)
        overall = sums(np.zeros(len(train), np.int32), counted, 1)
        overall += self.global_past[:, None]
        columns = np.empty((len(train), len(self.names)), np.float32)
        start = 0
        for entity, vocabulary in self.vocabularies.items():
            codes = vocabulary.encode(_entity_ids(train, entity))
            seen = sums(codes, counted, vocabulary.size)
            seen[:, codes == 0] = 0
            seen += self.past[entity].T[:, codes]
            block = self._columns(seen, overall)
            columns[:, start : start + block.shape[1]] = block
            start += block.shape[1]
        return columns

    def _sums_seen_by_row(
        self, train: TrainingLog
    ) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
        times = _causal_times(train, self.config)
        if times is None:
            order = np.random.default_rng(self.config.seed).permutation(len(train))
            fold_of = np.empty(len(train), np.int64)
            fold_of[order] = np.arange(len(train)) % self.config.folds
            return lambda codes, counted, size: sums_of_other_folds(
                codes, counted, size, fold_of, self.config.folds
            )
        if self.config.granularity:
            times = np.floor((times - times.min()) / self.config.granularity)
        ranks = np.unique(times, return_inverse=True)[1].astype(np.int64)
        return lambda codes, counted, size: sums_of_earlier_rows(codes, counted, ranks)

    def _columns(self, seen: np.ndarray, overall: np.ndarray) -> np.ndarray:
        """Unstandardised columns `float32 [n, w]` from counts `[1 + 2 T, n]` and global ones."""
        tasks = len(self.task_names)
        columns = np.empty((seen.shape[1], tasks + self.config.counts), np.float32)
        for task in range(tasks):
            defined, positive = seen[1 + 2 * task], seen[2 + 2 * task]
            rate = (overall[2 + 2 * task] + 0.5) / (overall[1 + 2 * task] + 1.0)
            smoothed = (positive + self.config.prior * rate) / (defined + self.config.prior)
            columns[:, task] = _logit(smoothed) - _logit(rate)
        if self.config.counts:
            columns[:, tasks] = np.log1p(seen[0])
        return columns


def _causal_times(train: TrainingLog, config: StatisticsConfig) -> np.ndarray | None:
    """Times of the rows where they are counted in the order of time."""
    return train.times if config.counting == "causal" else None


def _logit(rate: np.ndarray) -> np.ndarray:
    return np.log(rate) - np.log1p(-rate)


def _standardised(columns: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    return ((columns - mean) / std).astype(np.float32)


def _knows(log: InteractionLog, entity: str) -> bool:
    if entity in (USER_ID, ITEM_ID):
        return log.schema.has_ids
    return any(feature.name == entity for feature in log.schema.features)


def _entity_ids(log: InteractionLog, entity: str) -> pa.Array:
    schema = log.schema
    if schema.has_ids and entity in (USER_ID, ITEM_ID):
        return log.entity_ids("user" if entity == USER_ID else "item")
    for feature in schema.features:
        if feature.name == entity and feature.kind == "categorical":
            return identifiers(log.column(feature))
    known = [USER_ID, ITEM_ID] if schema.has_ids else []
    known += [feature.name for feature in schema.features if feature.kind == "categorical"]
    raise LogError(f"statistics of {entity!r}: expected one of {known}")


def _joined_ids(logs: list[TrainingLog], entity: str) -> pa.Array:
    arrays = [_entity_ids(log, entity) for log in logs]
    kinds = {array.type for array in arrays if array.null_count < len(array)}
    if len(kinds) > 1:
        raise LogError(
            f"statistics of {entity!r}: its ids are {sorted(map(str, kinds))} in the training log "
            "and the history: cast one to the type of the other"
        )
    return pa.concat_arrays([a for a in arrays if a.type in kinds] or arrays[:1])


def _counted_values(log: InteractionLog, task_names: tuple[str, ...]) -> np.ndarray:
    """What each row adds: 1, then defined and positive per task; `int8 [1 + 2 T, n]`."""
    values = np.zeros((1 + 2 * len(task_names), len(log)), np.int8)
    values[0] = 1
    for position, name in enumerate(task_names):
        if name in log.schema.task_names:
            labels = log.labels(name)
            values[1 + 2 * position] = ~np.isnan(labels)
            values[2 + 2 * position] = labels == 1
    return values


def _totals(
    log: InteractionLog | None, entity: str, vocabulary: Vocabulary, task_names: tuple[str, ...]
) -> np.ndarray:
    if log is None or not _knows(log, entity):
        return np.zeros((vocabulary.size, 1 + 2 * len(task_names)), np.int64)
    codes = vocabulary.encode(_entity_ids(log, entity))
    return sums_per_code(codes, _counted_values(log, task_names), vocabulary.size)


def _global_totals(log: InteractionLog | None, task_names: tuple[str, ...]) -> np.ndarray:
    if log is None:
        return np.zeros(1 + 2 * len(task_names), np.int64)
    return _counted_values(log, task_names).sum(axis=1, dtype=np.int64)
