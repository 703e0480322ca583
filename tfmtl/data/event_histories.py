"""What each user did before each row of a log, as columns of lists."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmtl.data.arrow_columns import canonical, identifiers
from tfmtl.data.interaction_log import LogError


def with_event_histories(
    rows: pa.Table,
    events: pa.Table,
    *,
    user: str,
    time: str,
    columns: Mapping[str, str],
    max_length: int,
) -> pa.Table:
    """Appends to each row the last events of its user that are strictly earlier than the row.

    For a row of user u at time t, with the events of u sorted by time e_1, e_2, ... and
    k = |{e of u: time(e) < t}|, every new column holds its values of

        e_{max(1, k - max_length + 1)}, ..., e_k,

    oldest first, so that neither the row itself nor one at the same time or later is among them.
    Events of one user at the same time keep the order of `events`. Element j of every new column
    belongs to the same event.

    Args:
        rows: Rows to append to; a row without a user has an empty list.
        events: What may be in a list; an event without a user is in none.
        user: Column of the user in both tables, integers or strings.
        time: Column of the time in both tables, in one unit.
        columns: Name of each new column to the column of `events` that it takes its values from.
        max_length: How many events a list has at most, the latest.

    Returns:
        `rows` with one `large_list` column per entry of `columns`, elements in the type of the
        column of `events`.

    Raises:
        LogError: If a column is missing or exists already, a time is null, users or times are of
            different types in the two tables, or `max_length` is below 1.

    Example:
        >>> rows = pa.table({"user": [7, 7, 8], "time": [1, 3, 3]})
        >>> events = pa.table({"user": [7, 7, 8], "time": [2, 1, 3], "item": ["b", "a", "c"]})
        >>> with_event_histories(
        ...     rows, events, user="user", time="time", columns={"seen": "item"}, max_length=9
        ... )["seen"].to_pylist()
        [[], ['a', 'b'], []]
    """
    if max_length < 1:
        raise LogError(
            f"expected max_length of at least 1; received {max_length}: set it to the number of "
            "events that a list may hold"
        )
    _require(rows, [user, time], "rows")
    _require(events, [user, time, *columns.values()], "events")
    taken = sorted(set(columns) & set(rows.column_names))
    if taken:
        raise LogError(
            f"expected names of new columns; received {taken}, which rows have already: give the "
            "histories other names"
        )
    event_users, row_users = _users(events, user, "events"), _users(rows, user, "rows")
    if event_users.type != row_users.type:
        raise LogError(
            f"users {user!r} are {event_users.type} in events and {row_users.type} in rows: cast "
            "one to the type of the other"
        )
    if event_users.null_count:
        events, event_users = events.filter(event_users.is_valid()), event_users.drop_null()
    event_times, row_times = _times(events, rows, time)
    distinct = event_users.unique()
    event_codes, row_codes = _codes(event_users, distinct), _codes(row_users, distinct)
    order = np.lexsort((event_times, event_codes))
    begins, lengths = _spans(
        event_codes[order], event_times[order], row_codes, row_times, max_length
    )
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = pa.array(_places(begins, lengths, offsets, len(order)))
    for name, source in columns.items():
        values = events[source].combine_chunks()
        if pa.types.is_string(values.type):
            # Repeated values may need more room than 32-bit offsets address.
            values = values.cast(pa.large_string())
        values = values.take(pa.array(order)).take(places)
        rows = rows.append_column(name, pa.LargeListArray.from_arrays(pa.array(offsets), values))
    return rows


def _require(table: pa.Table, names: list[str], place: str) -> None:
    missing = sorted(set(names) - set(table.column_names))
    if missing:
        raise LogError(
            f"expected the columns {missing} in {place}; received {table.column_names}: add them, "
            "or name existing columns"
        )


def _users(table: pa.Table, name: str, place: str) -> pa.Array:
    try:
        return identifiers(table[name])
    except (TypeError, ValueError) as error:
        raise LogError(f"users of {place}, column {name!r}: {error}") from error


def _codes(users: pa.Array, distinct: pa.Array) -> np.ndarray:
    """Number of each user, `int64 [n]`, -1 for one without events and for a missing one."""
    found = pc.index_in(users, value_set=distinct, skip_nulls=True)
    return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)


def _times(events: pa.Table, rows: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    kinds = [events[name].type, rows[name].type]
    times = []
    for table, place in ((events, "events"), (rows, "rows")):
        try:
            times.append(canonical(table[name]))
        except TypeError as error:
            raise LogError(f"times of {place}, column {name!r}: {error}") from error
        missing = pc.sum(pc.is_null(times[-1], nan_is_null=True)).as_py()
        if missing:
            raise LogError(
                f"time column {name!r}: {missing} of {table.num_rows} values of {place} are "
                "missing; drop these rows"
            )
    # Clocks of different units look alike once they are integers.
    clocks = any(pa.types.is_temporal(kind) for kind in kinds)
    if times[0].type != times[1].type or (clocks and kinds[0] != kinds[1]):
        raise LogError(
            f"times {name!r} are {kinds[0]} in events and {kinds[1]} in rows: cast one to the type "
            "of the other"
        )
    numbers = [values.to_numpy(zero_copy_only=False) for values in times]
    return numbers[0], numbers[1]


def _spans(
    event_codes: np.ndarray,
    event_times: np.ndarray,
    row_codes: np.ndarray,
    row_times: np.ndarray,
    max_length: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Where each row's events begin among the sorted ones, and how many there are."""
    distinct = np.unique(event_times)
    # A pair of user and rank of time as one number, which is sorted as the pairs are.
    stride = len(distinct) + 1
    keys = event_codes * stride + np.searchsorted(distinct, event_times)
    ends = np.searchsorted(keys, row_codes * stride + np.searchsorted(distinct, row_times))
    begins = np.maximum(np.searchsorted(event_codes, row_codes), ends - max_length)
    return begins, np.where(row_codes < 0, 0, ends - begins)


def _places(
    begins: np.ndarray, lengths: np.ndarray, offsets: np.ndarray, num_events: int
) -> np.ndarray:
    """`begin, begin + 1, ...` of every span, end to end."""
    total = int(offsets[-1])
    # Half the memory wherever 32 bits suffice.
    kind = np.int32 if max(total, num_events) <= np.iinfo(np.int32).max else np.int64
    places = np.repeat((begins - offsets[:-1]).astype(kind), lengths)
    places += np.arange(total, dtype=kind)
    return places
