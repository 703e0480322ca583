"""From columns of interactions to the two stores of the bipartite graph."""

from __future__ import annotations

import numpy as np

from tfmtl.graph.counting_sort import gathered, sorted_edges
from tfmtl.graph.csr import CSR
from tfmtl.graph.native import native

# Behaviours are the bits of one int32 in a sampled graph.
MAX_TASKS = 31


def behavior_dtype(num_tasks: int) -> np.dtype:
    """The smallest unsigned dtype with one bit per task.

    Args:
        num_tasks: Number of tasks, at most 31.

    Returns:
        `uint8`, `uint16` or `uint32`.

    Example:
        >>> behavior_dtype(3), behavior_dtype(9)
        (dtype('uint8'), dtype('uint16'))
    """
    return np.min_scalar_type(2**num_tasks - 1)


@native
def _merge(indptr, indices, behaviors, times):  # type: ignore[no-untyped-def]
    """Merges equal neighbours in a row of edges into one, in place. Returns the number left.

    `times` are the edges' times, of which the latest stays, or empty.
    """
    kept = 0
    begin = indptr[0]
    for row in range(indptr.size - 1):
        end = indptr[row + 1]
        first = kept
        for edge in range(begin, end):
            if kept > first and indices[edge] == indices[kept - 1]:
                behaviors[kept - 1] |= behaviors[edge]
                if times.size:
                    times[kept - 1] = max(times[kept - 1], times[edge])
            else:
                indices[kept] = indices[edge]
                behaviors[kept] = behaviors[edge]
                if times.size:
                    times[kept] = times[edge]
                kept += 1
        begin = end
        indptr[row + 1] = kept
    return kept


def interaction_stores(
    users: np.ndarray,
    items: np.ndarray,
    behaviors: np.ndarray,
    num_users: int,
    num_items: int,
    *,
    times: np.ndarray | None = None,
    merge: bool | None = None,
) -> tuple[CSR, CSR]:
    """Links users and items by columns of ids, without a log.

    Time is linear in the interactions, up to the sort of a row by time. Beside input and result
    stand two edge numbers and a behaviour per interaction, of 4 bytes and 1: 100 million
    interactions with `int32` ids and `uint8` behaviours peak at about 2.5 GB.

    Args:
        users: Encoded users, integers `[n]`; rows with the unknown user 0 make no edge.
        items: Encoded items, integers `[n]`; rows with the unknown item 0 make no edge.
        behaviors: Bits of the row's behaviours, unsigned integers or `int32` `[n]`.
        num_users: Number of user ids, the unknown user 0 included.
        num_items: Number of item ids, the unknown item 0 included.
        times: Integers `[n]`. With them every row is an edge of its own and rows of the stores
            ascend by time; without, rows of one pair are merged and their behaviours or-ed.
        merge: Whether rows of one pair are merged; as `times` says when not given. Of merged rows
            the latest time is kept.

    Returns:
        `item_user` (rows: users) and `user_item` (rows: items), each with `behavior` in the dtype
        of `behaviors` and, with times, `time` in the smallest signed dtype of 32 or 64 bits.

    Raises:
        ValueError: If the columns differ in length, an id is out of range, or a dtype does not fit.

    Example:
        >>> item_user, user_item = interaction_stores(
        ...     np.array([1, 2, 1]), np.array([3, 3, 3]), np.array([1, 1, 2], np.uint8), 3, 4)
        >>> item_user.indices.tolist(), item_user.data["behavior"].tolist()
        ([3, 3], [3, 1])
        >>> user_item.degrees.tolist()
        [0, 0, 0, 2]
    """
    columns = {"users": users, "items": items, "behaviors": behaviors}
    columns |= {} if times is None else {"times": times}
    for name, values in columns.items():
        if values.ndim != 1 or values.size != users.size:
            raise ValueError(
                f"expected {name} of shape [{users.size}], one entry per interaction; received "
                f"shape {list(values.shape)}"
            )
        integer = np.issubdtype(values.dtype, np.integer)
        if not integer or (name == "behaviors" and values.dtype.itemsize > 4):
            expected = "at most 32 bits" if name == "behaviors" else "any width"
            raise ValueError(f"expected {name} as integers of {expected}; received {values.dtype}")

    unknown = (users == 0) | (items == 0)
    if unknown.any():
        known = ~unknown
        users, items, behaviors = users[known], items[known], behaviors[known]
        times = None if times is None else times[known]
        del known
    del unknown, columns

    if times is not None and not merge:
        item_user = CSR.from_edges(
            users,
            items,
            num_users,
            num_items,
            {"behavior": behaviors, "time": _narrowed(times)},
            order="time",
        )
        return item_user, item_user.transpose()

    indptr, order = sorted_edges(users, items, num_users, num_items)
    indices = gathered(items, order).astype(np.int32, copy=False)
    bits = gathered(behaviors, order)
    latest = np.zeros(0, np.int64) if times is None else gathered(times, order)
    del order
    kept = _merge(indptr, indices, bits, latest)
    if kept < indices.size:
        indices, bits, latest = (array[:kept].copy() for array in (indices, bits, latest))
    data = {"behavior": bits} | ({} if times is None else {"time": _narrowed(latest)})
    item_user = CSR(indptr, indices, num_items, data)
    return item_user, item_user.transpose()


def _narrowed(times: np.ndarray) -> np.ndarray:
    """Times as `int32` where they fit, else as `int64`."""
    limits = np.iinfo(np.int32)
    fits = not times.size or (limits.min <= times.min() and times.max() <= limits.max)
    return times.astype(np.int32 if fits else np.int64, copy=False)
