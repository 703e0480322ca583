"""Sums of a block's edges over the groups of their sources."""

from __future__ import annotations

import numpy as np

from tfmtl.graph.macro_groups import Groups
from tfmtl.pipelines.beam.adjacency_block import AdjacencyBlock


def group_sums(block: AdjacencyBlock, strengths: np.ndarray, groups: Groups) -> np.ndarray:
    """Adds the strengths of each receiver's edges by macro node of the source.

    Args:
        block: Edges.
        strengths: What each edge counts for, `[E]`.
        groups: Macro nodes of the sources.

    Returns:
        `float32 [R, G + 1]`, a row per row of the block; column 0 is macro node 0.

    Example:
        >>> block = AdjacencyBlock.from_pairs(np.array([51, 52, 54]), np.ones(3, np.int32), 10)
        >>> groups = Groups(np.array([0, 1, 2, 0, 1]), np.ones(5), 2)
        >>> group_sums(block, np.array([0.5, 2, 4]), groups).tolist()
        [[0.0, 4.5, 2.0]]
    """
    columns = groups.count + 1
    rows = np.repeat(np.arange(block.rows.size), np.diff(block.indptr))
    places = rows * columns + groups.numbers[block.indices]
    sums = np.bincount(places, strengths, block.rows.size * columns)
    return sums.reshape(block.rows.size, columns).astype(np.float32)
