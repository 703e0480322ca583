"""Seconds and memory of the stores and the macro graph of one simulated log."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np

from benchmarks.macro.simulated_log import COLUMNS, TASKS, num_items, num_users
from tfmtl.graph import MacroConfig, interaction_stores, macro_graph_of_stores
from tfmtl.graph.behavior_scores import behavior_scores

NODES = 200
CONFIG = MacroConfig(user_nodes=NODES, item_nodes=NODES)
# As many users and items make enough active ones, so that all that compiles has compiled.
WARM_UP_IDS = 10 * NODES
REPEATS, ENOUGH_SECONDS = 3, 120.0


def _build(columns: list[np.ndarray], users: int, items: int, folder: Path) -> dict[str, float]:
    start = time.perf_counter()
    row_users, row_items, behaviors, times = columns
    stores = interaction_stores(
        row_users, row_items, behaviors, users, items, times=times, merge=True
    )
    # From here on the stores hold all that is needed of the log.
    columns.clear()
    del row_users, row_items, behaviors, times
    stored = time.perf_counter()
    macro_graph_of_stores(stores, behavior_scores(TASKS), CONFIG, folder=folder)
    built = time.perf_counter()
    millions = stores[0].num_edges / 1e6
    return {
        "users": users - 1,
        "items": items - 1,
        "edges": stores[0].num_edges,
        "largest_degree": int(max(store.degrees.max() for store in stores)),
        "stores_s": stored - start,
        "macro_graph_s": built - stored,
        "build_s": built - start,
        "macro_graph_s_per_million_edges": (built - stored) / millions,
        "build_s_per_million_edges": (built - start) / millions,
    }


def measure(rows: int, log: Path, folder: Path) -> dict[str, float]:
    """Builds the macro graph of the log in `log` under `folder`; the fastest of some times."""
    ids = np.arange(WARM_UP_IDS, dtype=np.int32)
    _build([ids, ids, np.ones(WARM_UP_IDS, np.uint8), ids], WARM_UP_IDS, WARM_UP_IDS, folder)
    times: list[dict[str, float]] = []
    while len(times) < REPEATS and sum(own["build_s"] for own in times) < ENOUGH_SECONDS:
        columns = [np.load(log / f"{name}.npy") for name in COLUMNS]
        times.append(_build(columns, num_users(rows), num_items(rows), folder))
    return {
        **min(times, key=lambda own: own["build_s"]),
        "builds": len(times),
        "macro_graph_gb": sum(path.stat().st_size for path in folder.iterdir()) / 2**30,
        "build_peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
