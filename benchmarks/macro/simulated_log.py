"""Simulated logs of any size whose mean degrees stay the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfmtl.schema import Task

TASKS = (
    Task(name="click", order=0),
    Task(name="like", order=1, parent="click"),
    Task(name="purchase", order=2, parent="like"),
)
COLUMNS = ("users", "items", "behaviors", "times")
ROWS_PER_USER, ROWS_PER_ITEM = 20, 100
USER_EXPONENT, ITEM_EXPONENT, OFFSET = 0.5, 0.8, 10.0
TOPICS, TOPICAL = 50, 0.7
LIKED, PURCHASED = 0.3, 0.3
FIRST_TIME = 1_700_000_000
BLOCK = 2**21


def num_users(rows: int) -> int:
    """Users of a log of some rows, the unknown user 0 included."""
    return rows // ROWS_PER_USER + 1


def num_items(rows: int) -> int:
    """Items of a log of some rows, the unknown item 0 included."""
    return rows // ROWS_PER_ITEM + 1


def write_log(rows: int, folder: Path, seed: int = 0) -> None:
    """Writes the columns of a log, in the order of time, as `.npy` files.

    Users and items appear with power-law frequency and every row is a click, which may lead to a
    like and that to a purchase. Users have a topic, from which most of their items are, so that
    there is something to cluster.

    Args:
        rows: Rows of the log.
        folder: Where the files go.
        seed: Seed of everything.
    """
    random = np.random.default_rng(seed)
    users, items = num_users(rows) - 1, num_items(rows) - 1
    # An id must not tell a rank: sorted ids would be kinder to the processor's cache.
    user_ids, item_ids = (
        1 + random.permutation(np.arange(size, dtype=np.int32)) for size in (users, items)
    )
    columns = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (rows,))
        for name, dtype in zip(COLUMNS, (np.int32, np.int32, np.uint8, np.int32), strict=True)
    }
    for first in range(0, rows, BLOCK):
        part = slice(first, min(first + BLOCK, rows))
        size = part.stop - first
        user, item = (
            _ranks(random, users, USER_EXPONENT, size),
            _ranks(random, items, ITEM_EXPONENT, size),
        )
        topical = random.random(size, np.float32) < TOPICAL
        item = np.where(topical, item - item % TOPICS + user % TOPICS, item)
        liked = random.random(size, np.float32) < LIKED
        purchased = liked & (random.random(size, np.float32) < PURCHASED)
        columns["users"][part] = user_ids[user]
        columns["items"][part] = item_ids[np.minimum(item, items - 1)]
        columns["behaviors"][part] = 1 + 2 * liked + 4 * purchased
        columns["times"][part] = np.arange(FIRST_TIME + first, FIRST_TIME + part.stop)
    for values in columns.values():
        values.flush()


def _ranks(random: np.random.Generator, size: int, exponent: float, draws: int) -> np.ndarray:
    """Draws of ranks r in [0, size) with density (r + OFFSET)^-exponent, by its inverse."""
    power = 1 - exponent
    low, high = OFFSET**power, (size + OFFSET) ** power
    ranks = (low + (high - low) * random.random(draws)) ** (1 / power) - OFFSET
    return np.clip(ranks.astype(np.int64), 0, size - 1)
