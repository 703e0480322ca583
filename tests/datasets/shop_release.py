"""Writes the two files of a shop's release, as Taobao and IJCAI-15 have them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write_release(folder: Path, edges: list[tuple], held_out: list[tuple[int, int]]) -> Path:
    """Edges are (user, item, seconds, behaviour), held-out pairs (user, item)."""
    folder.mkdir(parents=True, exist_ok=True)
    users, items, times, behaviors = zip(*edges, strict=True)
    ids = {"user": pa.array(users, pa.int32()), "item": pa.array(items, pa.int32())}
    behaviors = pa.array(behaviors, pa.large_string())
    rows = pa.table({**ids, "ts": pa.array(times, pa.int64()), "behavior": behaviors})
    pq.write_table(rows, folder / "edges_train.parquet")
    users, items = zip(*held_out, strict=True)
    ids = {"user": pa.array(users, pa.int32()), "item": pa.array(items, pa.int32())}
    pq.write_table(pa.table(ids), folder / "test_target_edges.parquet")
    return folder


def pairs_of(log) -> list[tuple[int, int]]:
    return list(zip(log.user_ids.tolist(), log.item_ids.tolist(), strict=True))
