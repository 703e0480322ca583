"""A log of who saw what and what they did, as Arrow columns under a schema."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmtl.data.arrow_columns import canonical, hash_column, identifiers, to_ids
from tfmtl.schema import Feature, Schema, Task

_Log = TypeVar("_Log", bound="InteractionLog")


class LogError(ValueError):
    """A log does not hold what its schema, or the step it is given to, needs."""


@dataclass(frozen=True, eq=False, repr=False)
class InteractionLog:
    """Rows of a log, and optionally one table of user and one of item features.

    Columns keep the log's own names. A feature of the user side is read from `users` where that
    table has its column and from `rows` otherwise; items likewise; context features come from
    `rows`. A row whose user or item is absent from the table has missing features of that side.

    Args:
        rows: One row per exposure, with the id, time, label and context columns of the schema.
        schema: What the columns mean.
        users: One row per user, keyed by `schema.user`.
        items: One row per item, keyed by `schema.item`.

    Raises:
        LogError: If the log is empty, a column is missing, an id or time is null, or a key
            occurs twice in `users` or `items`.

    Example:
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")], user="uid", item="vid", time="ts")
        >>> log = InteractionLog(
        ...     pa.table({"uid": [7, 7], "vid": ["a", "b"], "ts": [1, 2], "click": [1, 0]}), schema
        ... )
        >>> log, log.item_ids, log.labels("click")
        (InteractionLog(2 rows, tasks=['click']), array(['a', 'b'], dtype=object), \
array([1., 0.], dtype=float32))
    """

    rows: pa.Table
    schema: Schema
    users: pa.Table | None = None
    items: pa.Table | None = None

    def __post_init__(self) -> None:
        if self.rows.num_rows == 0:
            raise LogError(
                "expected a log of at least one row; received an empty one: check the file or "
                "the filter it comes from"
            )
        for what, name in self._row_columns():
            _require(self.rows, name, what, "the log")
        if self.schema.user is not None and self.schema.item is not None:
            self._check_entities("user", self.schema.user, self.users)
            self._check_entities("item", self.schema.item, self.items)
        elif self.users is not None or self.items is not None:
            raise LogError(
                "received a table of users or items, but the schema names no id columns: "
                "set user= and item= in the schema, or leave the tables out"
            )
        for feature in self.schema.features:
            if feature.side == "context":
                _require(self.rows, feature.source, f"feature {feature.name!r}", "the log")
            elif not self.in_table(feature) and feature.source not in self.rows.column_names:
                table = self.table(feature.side)
                known = {} if table is None else {f"{feature.side}s": table.column_names}
                known["the log"] = self.rows.column_names
                raise LogError(
                    f"feature {feature.name!r}: no column {feature.source!r}; columns: {known}. "
                    "Set column= of the feature to one of them, or add the column"
                )
        if self.schema.time is not None:
            self._check_time(self.schema.time)

    def __len__(self) -> int:
        return self.rows.num_rows

    def __repr__(self) -> str:
        tasks = list(self.schema.task_names)
        return f"{type(self).__name__}({len(self)} rows, tasks={tasks})"

    @property
    def user_ids(self) -> np.ndarray | None:
        """Raw user id per row, `int64 [n]` or `object [n]` of `str`; `None` without ids."""
        return to_ids(self.entity_ids("user")) if self.schema.has_ids else None

    @property
    def item_ids(self) -> np.ndarray | None:
        """Raw item id per row, `int64 [n]` or `object [n]` of `str`; `None` without ids."""
        return to_ids(self.entity_ids("item")) if self.schema.has_ids else None

    @property
    def times(self) -> np.ndarray | None:
        """Time per row in the log's own unit, `int64 [n]` or `float64 [n]`; `None` without."""
        time = self.schema.time
        if time is None:
            return None
        return canonical(self.rows[time]).to_numpy(zero_copy_only=False)

    def labels(self, task_name: str) -> np.ndarray:
        """Labels of one task.

        Args:
            task_name: Name of a task of the schema.

        Returns:
            `float32 [n]`: 1 positive, 0 negative, NaN where the task is undefined, which is where
            the value is missing or the parent task is not positive.

        Raises:
            SchemaError: If the schema has no such task.
            LogError: If the column holds another value than 0 and 1 and the task has no
                positive rule, or the rule compares numbers with strings.
        """
        task = self.schema.task(task_name)
        labels = self._own_labels(task)
        if task.parent is not None:
            labels[self.labels(task.parent) != 1] = np.nan
        return labels

    def column(self, feature: Feature) -> pa.ChunkedArray:
        """A feature's raw values, one per row, joined from `users` or `items` where they live.

        Args:
            feature: A feature of the schema.

        Returns:
            Column of length n in its own type, null where the row's entity is not in the table.
        """
        if not self.in_table(feature):
            return self.rows[feature.source]
        table = self.table(feature.side)
        assert table is not None
        index = self.entity_index(feature.side)
        return table[feature.source].take(pa.array(index, mask=index < 0))

    def table(self, side: str) -> pa.Table | None:
        """The table of `user` or `item` features; `None` for `context` and where there is none."""
        return {"user": self.users, "item": self.items}.get(side)

    def in_table(self, feature: Feature) -> bool:
        """Whether the feature is read from `users` or `items` rather than from the rows."""
        table = self.table(feature.side)
        return table is not None and feature.source in table.column_names

    def entity_ids(self, side: str) -> pa.Array:
        """Raw id of each row's user or item.

        Args:
            side: `user` or `item`.

        Returns:
            `int64 [n]` or `large_string [n]`, without nulls.

        Raises:
            LogError: If the log has no ids.
        """
        return identifiers(self.rows[self._key(side)])

    def entity_keys(self, side: str) -> pa.Array | None:
        """Keys of the table of one side, `int64` or `large_string`; `None` without a table."""
        table = self.table(side)
        return None if table is None else identifiers(table[self._key(side)])

    def entity_index(self, side: str) -> np.ndarray:
        """Position of each row's entity in the table of its side.

        Args:
            side: `user` or `item`, with a table of that side present.

        Returns:
            `int32 [n]`, -1 where the entity is not in the table.
        """
        index = pc.index_in(self.entity_ids(side), value_set=self.entity_keys(side))
        return pc.fill_null(index, -1).to_numpy(zero_copy_only=False)

    def select(self: _Log, rows: np.ndarray) -> _Log:
        """The chosen rows, as a log of the same type with the same feature tables.

        Args:
            rows: Boolean mask `[n]`, or integer positions in the wanted order.

        Raises:
            LogError: If no row is chosen.
        """
        rows = np.asarray(rows)
        choice = pa.array(rows)
        chosen = self.rows.filter(choice) if rows.dtype == bool else self.rows.take(choice)
        return dataclasses.replace(self, rows=chosen)

    def fingerprint(self) -> str:
        """SHA-256 over the schema and every column that it names, in row order.

        Chunks, integer widths, columns that the schema does not name, and the type of the log do
        not count.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self.schema.to_dict(), sort_keys=True).encode())
        names = {name for _, name in self._row_columns()}
        for side in ("user", "item"):
            table = self.table(side)
            used = {f.source for f in self.schema.features if f.side == side}
            if table is None:
                names |= used
                continue
            names |= used - set(table.column_names)
            for name in sorted({self._key(side)} | used & set(table.column_names)):
                digest.update(f"{side}.{name}:".encode())
                hash_column(digest, table[name])
        for name in sorted(names):
            digest.update(f"{name}:".encode())
            hash_column(digest, self.rows[name])
        return digest.hexdigest()

    def _row_columns(self) -> Iterator[tuple[str, str]]:
        for what in ("user", "item", "time"):
            name = getattr(self.schema, what)
            if name is not None:
                yield f"{what} of the schema", name
        for task in self.schema.tasks:
            yield f"task {task.name!r}", task.source
        for feature in self.schema.features_of("context"):
            yield f"feature {feature.name!r}", feature.source

    def _key(self, side: str) -> str:
        key = self.schema.user if side == "user" else self.schema.item
        if key is None:
            raise LogError(
                f"this needs {side} ids; received a log without: set user= and item= in the schema"
            )
        return key

    def _own_labels(self, task: Task) -> np.ndarray:
        values = canonical(self.rows[task.source])
        if pa.types.is_large_string(values.type):
            return self._text_labels(task, values)
        if pa.types.is_null(values.type):
            return np.full(len(self), np.nan, np.float32)
        if pa.types.is_large_list(values.type):
            raise LogError(
                f"task {task.name!r}: column {task.source!r} holds lists; expected one value a row"
            )
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
        missing = np.isnan(numbers)
        if task.positive is not None:
            if isinstance(task.positive.value, str):
                raise LogError(
                    f"task {task.name!r}: the positive rule compares with "
                    f"{task.positive.value!r}, but column {task.source!r} holds numbers: give the "
                    "rule a number"
                )
            labels = task.positive(numbers)
        else:
            odd = numbers[~missing & (numbers != 0) & (numbers != 1)]
            if len(odd):
                raise LogError(
                    f"task {task.name!r}: column {task.source!r} holds {odd[0]:g} and other values "
                    f"outside {{0, 1}} in {len(odd)} of {len(self)} rows: "
                    "give the task a positive rule, e.g. positive: {operator: '>=', value: 4}"
                )
            labels = numbers.astype(np.float32)
        labels[missing] = np.nan
        return labels

    def _text_labels(self, task: Task, values: pa.Array) -> np.ndarray:
        if task.positive is None or not isinstance(task.positive.value, str):
            example = pc.drop_null(values).slice(0, 1).to_pylist()
            raise LogError(
                f"task {task.name!r}: column {task.source!r} holds strings such as "
                f"{', '.join(map(repr, example))}: give the task a positive rule with a string, "
                "e.g. positive: {operator: '==', value: 'yes'}"
            )
        encoded = values.dictionary_encode()
        distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
        # The extra last entry is what a missing value, code -1, picks.
        table = np.append(task.positive(distinct), np.float32(np.nan))
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        return table[codes]

    def _check_entities(
        self, side: Literal["user", "item"], key: str, table: pa.Table | None
    ) -> None:
        ids = self._checked_ids(self.rows, key, f"{side} ids of the log")
        if table is None:
            return
        _require(table, key, f"key of {side}s", f"{side}s")
        keys = self._checked_ids(table, key, f"keys of {side}s")
        if keys.type != ids.type:
            raise LogError(
                f"{side} ids {key!r} are {ids.type} in the log and {keys.type} in {side}s: "
                "cast one to the type of the other"
            )
        counts = pc.value_counts(keys)
        repeated = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(repeated):
            raise LogError(
                f"{side}s holds {len(repeated)} keys more than once, e.g. {key} = "
                f"{repeated.field('values')[0].as_py()!r}: keep one row per {side}"
            )

    def _checked_ids(self, table: pa.Table, name: str, what: str) -> pa.Array:
        try:
            ids = identifiers(table[name])
        except (TypeError, ValueError) as error:
            raise LogError(f"{what}, column {name!r}: {error}") from error
        if ids.null_count:
            raise LogError(
                f"{what}, column {name!r}: {ids.null_count} of {len(ids)} values are missing; "
                "drop these rows"
            )
        return ids

    def _check_time(self, name: str) -> None:
        kind = self.rows[name].type
        if not (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)
        ):
            raise LogError(
                f"time column {name!r} is {kind}; expected integers, floats or timestamps: "
                "parse it into one of these"
            )
        times = canonical(self.rows[name])
        missing = pc.sum(pc.is_null(times, nan_is_null=True)).as_py()
        if missing:
            raise LogError(
                f"time column {name!r}: {missing} of {len(self)} values are missing; drop these "
                "rows, or leave time out of the schema"
            )


class TrainingLog(InteractionLog):
    """Rows that may be counted, built from and fitted on.

    A split makes it; build one by hand for rows that are known to lie before all held-out ones,
    such as a separate history file. Arguments are those of `InteractionLog`.

    Example:
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")], user=None, item=None)
        >>> TrainingLog(pa.table({"click": [1, 0]}), schema)
        TrainingLog(2 rows, tasks=['click'])
    """


class HeldOutLog(InteractionLog):
    """Rows kept for validation or test; nothing is ever counted, built or fitted on them.

    A split makes it; build one by hand for a log that comes with its own test file. Arguments are
    those of `InteractionLog`.

    Example:
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")], user=None, item=None)
        >>> HeldOutLog(pa.table({"click": [1, 0]}), schema)
        HeldOutLog(2 rows, tasks=['click'])
    """


def require_training(log: InteractionLog, purpose: str) -> None:
    """Refuses to count, build or fit on anything but training rows.

    Args:
        log: Log about to be used.
        purpose: What it is used for, e.g. `"fitting a FeatureEncoder"`.

    Raises:
        TypeError: If `log` is not a `TrainingLog`.

    Example:
        >>> require_training("rows.csv", "counting")
        Traceback (most recent call last):
        TypeError: counting needs a TrainingLog; received str: split the log first, e.g. \
split_by_time(log, validation_from, test_from).train
    """
    if not isinstance(log, TrainingLog):
        raise TypeError(
            f"{purpose} needs a TrainingLog; received {type(log).__name__}: split the log first, "
            "e.g. split_by_time(log, validation_from, test_from).train"
        )


def _require(table: pa.Table, name: str, what: str, place: str) -> None:
    found = table.column_names.count(name)
    if found == 1:
        return
    received = "there is none" if found == 0 else f"it occurs {found} times"
    raise LogError(
        f"{what}: expected one column {name!r} in {place}, but {received}; columns of {place}: "
        f"{table.column_names}. Name an existing column in the schema, or add it"
    )
