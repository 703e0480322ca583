"""The words every room shares: typed features, tasks, and the schema that holds them.

A schema says which columns of a log identify the user, the item and the time, which columns are
features and of what kind, and which columns are labels. It is read from and written to YAML.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, model_validator

USER_ID = "user_id"
ITEM_ID = "item_id"
TIME = "time"
RESERVED = frozenset(
    {USER_ID, ITEM_ID, TIME, "graph", "statistics", "macro_version", "chosen_tasks"}
)

FeatureKind = Literal["categorical", "numeric", "multi_categorical", "text", "sequence", "vector"]
Side = Literal["user", "item", "context"]
Operator = Literal["==", "!=", ">", ">=", "<", "<="]

# Encoded ids are of 32 bits.
_MOST_BUCKETS = 2**31 - 2

_OPERATORS = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "<": np.less,
    "<=": np.less_equal,
}


class SchemaError(ValueError):
    """A schema, or a log held against its schema, is not usable."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Feature(_Frozen):
    """One input column.

    Args:
        name: Name of the model input; also the column unless `column` is given.
        kind: `categorical` (one id), `numeric` (one float), `multi_categorical` (a set of ids),
            `text` (a string, split into lower-case word tokens), `sequence` (an ordered list of
            ids, most recent last) or `vector` (a list of `dim` floats that another model computed,
            passed through unchanged; a missing one is zeros).
        side: Which entity the feature describes: `user`, `item`, or `context` for the row itself.
        column: Column of the log when it differs from `name`.
        min_count: Ids seen fewer times in the training rows are out of vocabulary: id 0, or one of
            `oov_buckets`.
        max_length: Kept length of multi-valued kinds; the last values are kept.
        separator: Separator of multi-valued kinds that are stored as one string.
        vocabulary: Name of the feature, or `user_id` / `item_id`, whose ids this one shares;
            `None` gives it ids of its own.
        hash_buckets: Ids only. Number N of buckets that take the place of a vocabulary: an id has
            the encoded id 1 + (fingerprint of its text modulo N), see `Vocabulary`, a missing one
            0. Nothing is learned from the log but whether ids are integers or strings, new ids need
            no new table, and ids that collide share a row. Features that name this one as their
            `vocabulary` are hashed alike. The ids of users and items are nodes of graphs, which may
            not collide, and cannot be hashed: to hash them beside that, declare a feature that
            reads their column.
        oov_buckets: Ids only. Number K of rows that ids out of vocabulary are hashed into, encoded
            as 1 to K, ahead of the vocabulary; 0 encodes them like missing ones. What trains these
            rows are the ids below `min_count` in the training rows, so that has to be 2 at least.
        transform: Numeric only. `standard` subtracts the training mean and divides by the
            training deviation, `log` does so after log(1 + x), `none` passes the value through.
        fill: Numeric only. Value that stands in for a missing one; without it a missing value is
            an error.
        dim: Vectors only, which need it. Floats in every list of the column.

    Example:
        >>> Feature(name="genre", kind="multi_categorical", side="item", separator="|").width
        8
    """

    name: str
    kind: FeatureKind = "categorical"
    side: Side = "context"
    column: str | None = None
    min_count: int = 1
    max_length: int = 8
    separator: str | None = None
    vocabulary: str | None = None
    hash_buckets: int | None = None
    oov_buckets: int = 0
    transform: Literal["standard", "log", "none"] = "standard"
    fill: float | None = None
    dim: int | None = None

    @model_validator(mode="after")
    def _check(self) -> Feature:
        if self.name in RESERVED:
            raise ValueError(
                f"feature name {self.name!r} is reserved; rename the feature and set column="
            )
        if self.min_count < 1 or self.max_length < 1:
            raise ValueError(
                f"feature {self.name!r}: expected min_count and max_length of at least 1; "
                f"received {self.min_count} and {self.max_length}"
            )
        if self.kind == "vector" and (self.dim is None or self.dim < 1):
            raise ValueError(
                f"vector feature {self.name!r}: expected dim of at least 1; received {self.dim}: "
                "set dim= to the length of the column's lists"
            )
        if self.kind != "vector" and self.dim is not None:
            raise ValueError(
                f"feature {self.name!r}: dim is for vectors; received dim={self.dim} with kind "
                f"{self.kind!r}: set kind='vector', or leave dim out"
            )
        self._check_buckets()
        return self

    def _check_buckets(self) -> None:
        received = f"received hash_buckets={self.hash_buckets} and oov_buckets={self.oov_buckets}"
        least = 0 if self.hash_buckets is None else self.hash_buckets - 1
        if min(least, self.oov_buckets) < 0 or max(least, self.oov_buckets) >= _MOST_BUCKETS:
            raise ValueError(
                f"feature {self.name!r}: expected hash_buckets from 1, or none, and oov_buckets "
                f"from 0, both up to {_MOST_BUCKETS}; {received}"
            )
        if self.hash_buckets is None and not self.oov_buckets:
            return
        if not self.has_vocabulary:
            raise ValueError(
                f"feature {self.name!r}: buckets are for ids; {received} with kind {self.kind!r}: "
                "leave them out, or declare the feature as categorical"
            )
        if self.vocabulary is not None:
            remedy = "set them on the feature that owns the vocabulary"
            if self.vocabulary in (USER_ID, ITEM_ID):
                remedy = (
                    f"nodes of graphs may not collide; leave vocabulary={self.vocabulary!r} out "
                    "and hash the column as ids of the feature's own"
                )
            raise ValueError(
                f"feature {self.name!r}: buckets belong to a vocabulary; {received} beside "
                f"vocabulary={self.vocabulary!r}: {remedy}"
            )
        if self.hash_buckets is not None and (self.min_count > 1 or self.oov_buckets):
            raise ValueError(
                f"feature {self.name!r}: hashing knows no vocabulary for an id to be in or out of; "
                f"{received} with min_count={self.min_count}: leave min_count and oov_buckets out, "
                "or hash_buckets"
            )
        if self.oov_buckets and self.min_count < 2:
            raise ValueError(
                f"feature {self.name!r}: every id of the training rows is in the vocabulary, so "
                f"nothing would train the rows of the others; {received} with min_count=1: set "
                "min_count to 2 or more, or leave oov_buckets out"
            )

    @property
    def source(self) -> str:
        """Column of the log that holds the feature."""
        return self.column or self.name

    @property
    def is_list(self) -> bool:
        """Whether the encoded feature is a padded list of ids rather than one value."""
        return self.kind in ("multi_categorical", "text", "sequence")

    @property
    def has_vocabulary(self) -> bool:
        """Whether the values are ids, rather than numbers or vectors."""
        return self.kind not in ("numeric", "vector")

    @property
    def width(self) -> int:
        """Values per row after encoding: `max_length` for lists, `dim` for vectors, else 1."""
        return self.max_length if self.is_list else self.dim or 1


class Positive(_Frozen):
    """What makes a label positive: a comparison with a value, e.g. `rating >= 4`.

    Args:
        operator: One of `==`, `!=`, `>`, `>=`, `<`, `<=`.
        value: Right-hand side of the comparison.

    Example:
        >>> Positive(operator=">=", value=4)(np.array([3.0, 4.0]))
        array([0., 1.], dtype=float32)
    """

    operator: Operator
    value: float | str

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Returns 0/1 labels, `float32 [n]`, for the raw column `values [n]`."""
        return _OPERATORS[self.operator](values, self.value).astype(np.float32)


class Task(_Frozen):
    """One behaviour to predict.

    Args:
        name: Name of the model output.
        column: Label column when it differs from `name`.
        positive: Rule that turns the column into 0/1; without it the column must hold 0 and 1.
            A missing value always means that the task is undefined for the row.
        order: Position in the chain of behaviours, weakest first (click 0, like 1, purchase 2).
        parent: Task whose positive rows are the only ones on which this task is defined.
        weight: Static weight of the task's loss.

    Example:
        >>> Task(name="love", column="rating", positive={"operator": "==", "value": 5}).source
        'rating'
    """

    name: str
    column: str | None = None
    positive: Positive | None = None
    order: int = 0
    parent: str | None = None
    weight: float = 1.0

    @model_validator(mode="after")
    def _check(self) -> Task:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(
                f"task {self.name!r}: expected a finite weight >= 0; received {self.weight}"
            )
        return self

    @property
    def source(self) -> str:
        """Column of the log that holds the label."""
        return self.column or self.name


class Schema(_Frozen):
    """Columns of a log and what they mean.

    Args:
        tasks: At least one task, in the order of the model's outputs.
        features: Input columns besides the ids.
        user: Column of the user id; `None` for a log without users (and so without a graph).
        item: Column of the item id.
        time: Column of the time of the row, any integer or float clock.
        title: Item column shown to people, e.g. a film's title.

    Raises:
        pydantic.ValidationError: If names collide, a parent task is unknown or tasks form a cycle.

    Example:
        >>> schema = Schema(tasks=[Task(name="click")], user="uid", item="vid", time="ts")
        >>> schema.task_names
        ('click',)
    """

    tasks: tuple[Task, ...]
    features: tuple[Feature, ...] = ()
    user: str | None = USER_ID
    item: str | None = ITEM_ID
    time: str | None = None
    title: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Schema:
        if not self.tasks:
            raise ValueError("a schema needs at least one task; received none")
        for kind, names in (
            ("feature", [feature.name for feature in self.features]),
            ("task", list(self.task_names)),
        ):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"expected distinct {kind} names; repeated: {repeated}")
        parents = {task.name: task.parent for task in self.tasks}
        for name in parents:
            seen, current = {name}, parents[name]
            while current is not None:
                if current not in parents:
                    raise ValueError(
                        f"task {name!r}: parent {current!r} is not among {list(parents)}"
                    )
                if current in seen:
                    raise ValueError(f"task {name!r}: its parents form a cycle")
                seen.add(current)
                current = parents[current]
        if (self.user is None) != (self.item is None):
            raise ValueError(
                "expected both user and item columns or neither; "
                f"received user={self.user!r}, item={self.item!r}"
            )
        sides = {feature.side for feature in self.features}
        if self.user is None and sides - {"context"}:
            raise ValueError(
                "a log without user and item columns has context features only; "
                f"received sides {sorted(sides)}"
            )
        labels = {task.source for task in self.tasks}
        leaks = sorted(f.name for f in self.features if f.source in labels)
        if leaks:
            raise ValueError(f"features {leaks} are label columns; remove them from the features")
        return self

    @property
    def has_ids(self) -> bool:
        """Whether rows belong to a user and an item."""
        return self.user is not None

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks, in output order."""
        return tuple(task.name for task in self.tasks)

    def task(self, name: str) -> Task:
        """The task called `name`.

        Raises:
            SchemaError: If there is none.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise SchemaError(f"no task {name!r}; expected one of {list(self.task_names)}")

    def features_of(self, side: Side) -> tuple[Feature, ...]:
        """Features of one side, in declaration order."""
        return tuple(feature for feature in self.features if feature.side == side)

    def to_yaml(self) -> str:
        """The schema as YAML, fields at their default left out."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def to_dict(self) -> dict[str, Any]:
        """The schema as plain JSON-able data."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def from_yaml(cls, source: str | Path) -> Schema:
        """Reads a schema from YAML text, or from a file when given a `Path`.

        Raises:
            SchemaError: If the text is not YAML or does not describe a schema.
        """
        origin = str(source) if isinstance(source, Path) else "schema"
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        try:
            return cls.model_validate(yaml.safe_load(text))
        except (yaml.YAMLError, ValueError) as error:
            raise SchemaError(f"{origin}: {error}") from error
