"""A simulated graph of a hundred million interactions: built, saved, opened, sampled."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.progress import track

from tfmtl.datasets.simulator import BehaviorSimulator
from tfmtl.graph import GraphBundle, NeighborSampler
from tfmtl.graph.interaction_stores import interaction_stores

NUM_USERS, NUM_ITEMS, NUM_ROWS = 5_000_000, 1_000_000, 100_000_000
BLOCK = 2**21
BATCH, BATCHES = 1024, 50


def _interactions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shop = BehaviorSimulator(num_users=NUM_USERS, num_items=NUM_ITEMS, num_rows=NUM_ROWS)
    users, items = np.empty(NUM_ROWS, np.int32), np.empty(NUM_ROWS, np.int32)
    behaviors = np.empty(NUM_ROWS, np.uint8)
    done = 0
    blocks = -(-NUM_ROWS // BLOCK)
    for block in track(shop.blocks(BLOCK), description="Simulating", total=blocks):
        rows = len(block[0])
        for column, part in zip((users, items, behaviors), block, strict=True):
            column[done : done + rows] = part
        done += rows
    return users, items, behaviors


def measure() -> dict[str, float]:
    """Seconds, bytes and rates."""
    start = time.perf_counter()
    users, items, behaviors = _interactions()
    simulated = time.perf_counter()
    stores = interaction_stores(users, items, behaviors, NUM_USERS + 1, NUM_ITEMS + 1)
    del users, items, behaviors
    names = ("item_user", "user_item")
    bundle = GraphBundle(dict(zip(names, stores, strict=True)), NUM_USERS + 1, NUM_ITEMS + 1)
    built = time.perf_counter()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "graph"
        bundle.save(folder)
        saved = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        interactions = bundle.edge_sets["item_user"].num_edges
        del bundle, stores
        opening = time.perf_counter()
        opened = GraphBundle.load(folder)
        open_seconds = time.perf_counter() - opening
        sampler = NeighborSampler(opened, fan_outs=(10, 10), channels=("interaction",))
        random = np.random.default_rng(0)
        edges = 0
        for batch in range(BATCHES + 1):
            if batch == 1:
                sampling, edges = time.perf_counter(), 0
            graph = sampler.sample(
                random.integers(1, NUM_USERS + 1, BATCH),
                random.integers(1, NUM_ITEMS + 1, BATCH),
                batch,
            )
            edges += sum(len(source) for source in graph.sources.values())
        sample_seconds = time.perf_counter() - sampling
        largest = int(max(store.degrees.max() for store in opened.edge_sets.values()))
    return {
        "rows": NUM_ROWS,
        "interactions": interactions,
        "simulate_s": simulated - start,
        "build_s": built - simulated,
        "save_s": saved - built,
        "peak_gb": peak / 2**20,
        "bytes_per_stored_edge": size / (2 * interactions),
        "bytes_per_interaction": size / interactions,
        "open_s": open_seconds,
        "sampled_edges_per_s": edges / sample_seconds,
        "scale_seeds_per_s": 2 * BATCH * BATCHES / sample_seconds,
        "scale_largest_degree": largest,
    }
