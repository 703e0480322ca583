"""Logs and graphs that the tests of macro graphs share."""

import numpy as np
import pyarrow as pa

from tfmtl.data import TrainingLog
from tfmtl.graph import interaction_stores
from tfmtl.schema import ITEM_ID, USER_ID, Feature, Schema, Task

SCHEMA = Schema(
    user="u",
    item="v",
    time="ts",
    tasks=[Task(name="click"), Task(name="buy", order=1)],
    features=[
        Feature(name="cat", side="item"),
        Feature(name="age", side="user"),
        Feature(name="price", kind="numeric", side="item"),
    ],
)
BLOCKS, BLOCK_USERS, BLOCK_ITEMS = 3, 8, 6


def block_rows(users=BLOCKS * BLOCK_USERS, items_of_block=BLOCK_ITEMS):
    """Rows of users 100, 101, ... who like four items of their own block of items 500, 501, ...

    User u belongs to block u mod 3, item v likewise. Each user also buys one of the four and leaves
    an item of the next block alone.
    """
    rows = []
    for user in range(users):
        block = user % BLOCKS
        for place in range(5):
            item = BLOCKS * ((place + user // BLOCKS) % items_of_block) + block
            if place == 4:
                item += 1 if block < 2 else -2
            rows.append((100 + user, 500 + item, int(place < 4), int(place == 1)))
    u, v, click, buy = np.array(rows).T
    return {
        "u": u,
        "v": v,
        "ts": 1000 + np.arange(len(u)) * 7 % len(u),
        "click": click,
        "buy": buy,
        "cat": (v - 500) % 4,
        "age": u % 5,
        "price": v / 2,
    }


def block_log(schema=SCHEMA, **options):
    return TrainingLog(pa.table(block_rows(**options)), schema)


def changed(log, **columns):
    """The log with other columns."""
    rows = log.rows.to_pydict() | columns
    return TrainingLog(pa.table(rows), log.schema)


def numbers_of(graph, encoder):
    """Macro nodes by raw id, of users and of items."""
    users, items = encoder.vocabularies[USER_ID].values, encoder.vocabularies[ITEM_ID].values
    return (
        dict(zip(users.tolist(), graph.user_groups[0, 1:].tolist(), strict=True)),
        dict(zip(items.tolist(), graph.item_groups[0, 1:].tolist(), strict=True)),
    )


def random_stores(seed, users, items, rows, tasks=2, times=None):
    """Stores of random rows, and the behaviours of every pair as a dense matrix."""
    rng = np.random.default_rng(seed)
    u, v = rng.integers(1, users, rows), rng.integers(1, items, rows)
    bits = rng.integers(1, 2**tasks, rows).astype(np.uint8)
    dense = np.zeros((users, items), np.uint8)
    np.bitwise_or.at(dense, (u, v), bits)
    times = None if times is None else rng.integers(0, times, rows)
    return interaction_stores(u, v, bits, users, items, times=times, merge=True), dense


def one_hot(groups, count):
    return np.eye(count + 1)[groups]


def counts(rows):
    """What rows of logarithms in half precision stand for."""
    return np.expm1(np.asarray(rows, np.float64))
