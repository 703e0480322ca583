"""The random graphs that the measurements share."""

from __future__ import annotations

import numpy as np

from tfmtl.graph import GraphBundle
from tfmtl.graph.interaction_stores import interaction_stores

NUM_USERS, NUM_ITEMS, NUM_EDGES = 200_000, 100_000, 5_000_000
ZIPF_EXPONENT = 1.3


def random_pairs(power_law: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of `NUM_EDGES` draws; ids from 1, as 0 is the unknown id."""
    random = np.random.default_rng(seed)
    users = random.integers(1, NUM_USERS + 1, NUM_EDGES)
    if power_law:
        items = 1 + random.zipf(ZIPF_EXPONENT, NUM_EDGES) % NUM_ITEMS
    else:
        items = random.integers(1, NUM_ITEMS + 1, NUM_EDGES)
    return users.astype(np.int32), items.astype(np.int32)


def random_bundle(power_law: bool, *, merged: bool) -> GraphBundle:
    """The user-item graph of `random_pairs`; repeated pairs are one edge, or as many as drawn."""
    users, items = random_pairs(power_law)
    behaviors = np.ones(users.size, np.uint8)
    times = None if merged else np.arange(users.size, dtype=np.int32)
    item_user, user_item = interaction_stores(
        users, items, behaviors, NUM_USERS + 1, NUM_ITEMS + 1, times=times
    )
    stores = {"item_user": item_user, "user_item": user_item}
    return GraphBundle(stores, NUM_USERS + 1, NUM_ITEMS + 1)
