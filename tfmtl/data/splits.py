"""Ways to cut a log into rows to learn from and rows to be judged on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tfmtl.data.interaction_log import HeldOutLog, InteractionLog, LogError, TrainingLog

_TRAIN, _VALIDATION, _TEST, _UNUSED = 0, 1, 2, 3


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of one log, told apart by their types.

    Args:
        train: Rows to count, build and fit on.
        validation: Rows to choose hyper-parameters and the best epoch on.
        test: Rows to report on.

    Raises:
        TypeError: If a part is not of its type.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")], user=None, item=None)
        >>> rows = pa.table({"click": [1, 0]})
        >>> held_out = HeldOutLog(rows, schema)
        >>> Split(train=TrainingLog(rows, schema), validation=held_out, test=held_out).test
        HeldOutLog(2 rows, tasks=['click'])
    """

    train: TrainingLog
    validation: HeldOutLog
    test: HeldOutLog

    def __post_init__(self) -> None:
        for part, kind in (
            ("train", TrainingLog),
            ("validation", HeldOutLog),
            ("test", HeldOutLog),
        ):
            received = getattr(self, part)
            if not isinstance(received, kind):
                raise TypeError(
                    f"{part}: expected a {kind.__name__}; received {type(received).__name__}"
                )


def split_by_time(
    log: InteractionLog, validation_from: float, test_from: float, until: float | None = None
) -> Split:
    """Cuts at fixed times: train < `validation_from` <= validation < `test_from` <= test.

    Args:
        log: Log with a time column.
        validation_from: First time of the validation part, in the log's unit.
        test_from: First time of the test part.
        until: First time that is left out altogether; `None` keeps all later rows.

    Returns:
        The parts, rows in the order of the log.

    Raises:
        LogError: If the log has no times, the cuts are not in order, or a part is empty.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")], time="ts")
        >>> rows = {"user_id": [1, 2, 1], "item_id": [5, 5, 6], "ts": [10, 20, 30]}
        >>> log = InteractionLog(pa.table({**rows, "click": [0, 1, 1]}), schema)
        >>> len(split_by_time(log, validation_from=15, test_from=30).train)
        1
    """
    cuts = [validation_from, test_from] + ([] if until is None else [until])
    if any(later <= earlier for earlier, later in pairwise(cuts)):
        raise LogError(
            "expected validation_from < test_from < until; "
            f"received {validation_from}, {test_from}, {until}"
        )
    parts = np.searchsorted(np.asarray(cuts), _times(log, "split_by_time"), side="right")
    return _cut(log, parts)


def split_per_user_by_time(
    log: InteractionLog, validation: float = 0.1, test: float = 0.1
) -> Split:
    """Holds out each user's latest rows: the last `test` share, and `validation` before it.

    Shares are rounded down, so a user with fewer than `1 / test` rows stays in training. Rows of
    one user at the same time keep the order of the log.

    Args:
        log: Log with ids and times.
        validation: Share of each user's rows.
        test: Share of each user's rows.

    Returns:
        The parts, rows in the order of the log.

    Raises:
        LogError: If the log has no ids or times, a share is out of range, or a part is empty.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")], time="ts")
        >>> rows = {"user_id": [1, 1, 1, 1], "item_id": [5, 6, 7, 8], "click": [0, 1, 1, 0]}
        >>> log = InteractionLog(pa.table({**rows, "ts": [4, 3, 2, 1]}), schema)
        >>> split = split_per_user_by_time(log, validation=0.25, test=0.25)
        >>> split.train.item_ids, split.test.item_ids
        (array([7, 8]), array([5]))
    """
    _check_shares(validation, test)
    age, count = _age_within_user(log, _times(log, "split_per_user_by_time"))
    # The small constant keeps 0.29 * 100 = 28.999999999999996 from losing a row.
    tests = np.floor(count * test + 1e-9)
    validations = np.floor(count * validation + 1e-9)
    parts = np.where(age < tests, _TEST, np.where(age < tests + validations, _VALIDATION, _TRAIN))
    return _cut(log, parts)


def split_random(
    log: InteractionLog, validation: float = 0.1, test: float = 0.1, seed: int = 0
) -> Split:
    """Holds out random rows; the same seed and row order give the same parts.

    Args:
        log: Any log.
        validation: Share of the rows.
        test: Share of the rows.
        seed: Seed of the permutation.

    Returns:
        The parts, rows in the order of the log.

    Raises:
        LogError: If a share is out of range or a part is empty.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")])
        >>> rows = {"user_id": [1, 1, 1, 1], "item_id": [5, 6, 7, 8], "click": [0, 1, 1, 0]}
        >>> log = InteractionLog(pa.table(rows), schema)
        >>> split = split_random(log, validation=0.25, test=0.25, seed=3)
        >>> len(split.train), len(split.validation), len(split.test)
        (2, 1, 1)
    """
    _check_shares(validation, test)
    order = np.random.default_rng(seed).permutation(len(log))
    tests, validations = round(len(log) * test), round(len(log) * validation)
    parts = np.full(len(log), _TRAIN)
    parts[order[:tests]] = _TEST
    parts[order[tests : tests + validations]] = _VALIDATION
    return _cut(log, parts)


def split_leave_one_out(log: InteractionLog) -> Split:
    """Holds out each user's last row as test and the one before it as validation.

    Users with fewer than three rows stay in training. Without a time column the order of the log
    stands for time.

    Args:
        log: Log with ids.

    Returns:
        The parts, rows in the order of the log.

    Raises:
        LogError: If the log has no ids or no user has three rows.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")])
        >>> rows = {"user_id": [1, 2, 1, 1], "item_id": [5, 6, 7, 8], "click": [0, 1, 1, 0]}
        >>> log = InteractionLog(pa.table(rows), schema)
        >>> split = split_leave_one_out(log)
        >>> split.train.item_ids, split.validation.item_ids, split.test.item_ids
        (array([5, 6]), array([7]), array([8]))
    """
    times = log.times
    age, count = _age_within_user(log, np.zeros(len(log), np.int64) if times is None else times)
    parts = np.select([(age == 0) & (count > 2), (age == 1) & (count > 2)], [_TEST, _VALIDATION])
    return _cut(log, parts)


def _times(log: InteractionLog, caller: str) -> np.ndarray:
    times = log.times
    if times is None:
        raise LogError(
            f"{caller} needs times; received a log without: set time= in the schema, or use "
            "split_random"
        )
    return times


def _age_within_user(log: InteractionLog, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of later rows of the same user, and of all its rows, `int64 [n]` each."""
    users = log.entity_ids("user").dictionary_encode().indices.to_numpy()
    order = np.lexsort((times, users))
    count = np.bincount(users)
    ends = np.cumsum(count)
    age = np.empty(len(log), np.int64)
    age[order] = ends[users[order]] - 1 - np.arange(len(log))
    return age, count[users]


def _check_shares(validation: float, test: float) -> None:
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise LogError(
            "expected validation > 0, test > 0 and validation + test < 1; "
            f"received {validation} and {test}"
        )


def _cut(log: InteractionLog, parts: np.ndarray) -> Split:
    if isinstance(log, HeldOutLog):
        raise TypeError(
            "expected a log that was not held out; received a HeldOutLog: its rows may not become "
            "training rows, split the log it was cut from"
        )
    sizes = np.bincount(parts, minlength=_UNUSED)
    for part, name in ((_TRAIN, "train"), (_VALIDATION, "validation"), (_TEST, "test")):
        if sizes[part] == 0:
            raise LogError(
                f"the {name} part is empty (train, validation, test: {sizes[:3].tolist()} of "
                f"{len(log)} rows): move the cuts or change the shares"
            )
    rows = [log.rows.filter(parts == part) for part in (_TRAIN, _VALIDATION, _TEST)]
    return Split(
        train=TrainingLog(rows[0], log.schema, log.users, log.items),
        validation=HeldOutLog(rows[1], log.schema, log.users, log.items),
        test=HeldOutLog(rows[2], log.schema, log.users, log.items),
    )
