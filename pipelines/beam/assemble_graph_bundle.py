"""From the shards of the jobs to the graph that training opens."""

from __future__ import annotations

import numpy as np
from apache_beam.io.filesystems import FileSystems

from tfmtl.graph import CSR, GraphBundle
from tfmtl.graph.interaction_stores import behavior_dtype, interaction_stores
from tfmtl.pipelines.beam.adjacency_shards import (
    INTERACTIONS,
    SIMILARITY,
    read_adjacency,
    read_document,
)


def _edges(
    folder: str, edge_set: str, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Receivers, sources and values of all shards."""
    blocks = list(read_adjacency(folder, edge_set))
    return (
        np.concatenate([block.receivers for block in blocks]),
        np.concatenate([block.indices for block in blocks]),
        np.concatenate([block.values.astype(dtype) for block in blocks]),
    )


def assemble_graph_bundle(folder: str) -> GraphBundle:
    """Reads the shards of a graph into one bundle, in memory.

    Edge sets and manifest are those of `tfmtl.graph.build_graph_bundle` on the same rows. All edges
    pass through the memory of this machine, at about 30 bytes each: it is the machine that trains,
    or one like it.

    Args:
        folder: Folder that the adjacency job wrote, and, for the similarity graphs, the similarity
            job.

    Returns:
        The bundle.

    Raises:
        FileNotFoundError: If the adjacency job has not run to its end.
    """
    document = read_document(folder, INTERACTIONS)
    num_users, num_items = document["num_users"], document["num_items"]
    manifest = document["manifest"] | {"similarity": None}
    dtype = behavior_dtype(len(manifest["tasks"]))
    users, items, behaviors = _edges(folder, "item_user", dtype)
    item_user, user_item = interaction_stores(users, items, behaviors, num_users, num_items)
    edge_sets = {"item_user": item_user, "user_item": user_item}
    if FileSystems.exists(FileSystems.join(folder, SIMILARITY)):
        manifest["similarity"] = read_document(folder, SIMILARITY)
        for name, size in (("user_user", num_users), ("item_item", num_items)):
            rows, columns, weight = _edges(folder, name, np.dtype(np.float32))
            edge_sets[name] = CSR.from_edges(rows, columns, size, size, {"weight": weight})
    return GraphBundle(edge_sets, num_users, num_items, manifest)
