"""The subgraph drawn for one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfmtl.graph.topology import EDGE_SETS, NODE_SETS


@dataclass(frozen=True, eq=False)
class SampledSubgraph:
    """Nodes and edges drawn for the rows of one batch, each node once.

    Arrays are NumPy arrays, or tensors of the same dtype and shape on their way to a
    `tfgnn.GraphTensor`. N: nodes of a node set, E: edges of an edge set, B: rows of the batch, L:
    hops of the walk.

    Args:
        ids: Node set to `int32 [N]`, encoded ids.
        hops: Node set to `int32 [N]`, ascending: steps from the batch, the least over channels.
        readout: Node set to `int32 [B]`, which node each row is.
        sources: Edge set to `int32 [E]`, node indices.
        targets: Edge set to `int32 [E]`, node indices, ascending.
        features: Edge set to `[E]`: `int32` behaviours or `float32` weights.
        spans: Edge set to `int32 [N, 2]`, for every node of its target set: its first edge, and how
            many follow each other from there.
        within: Edge set to `int32 [L + 1]`, by hop: how many leading nodes of its target set hold
            all that its channel found by then.

    Example:
        >>> import numpy as np
        >>> seed = {"user": np.array([3]), "item": np.array([5])}
        >>> graph = SampledSubgraph(seed, seed, seed, {}, {}, {}, {}, {})
        >>> graph.edge_sets, len(graph.flat())
        ((), 6)
    """

    ids: dict[str, Any]
    hops: dict[str, Any]
    readout: dict[str, Any]
    sources: dict[str, Any]
    targets: dict[str, Any]
    features: dict[str, Any]
    spans: dict[str, Any]
    within: dict[str, Any]

    @property
    def edge_sets(self) -> tuple[str, ...]:
        """Names of the edge sets, in the order of `EDGE_SETS`."""
        return tuple(name for name in EDGE_SETS if name in self.sources)

    def flat(self) -> list[Any]:
        """All arrays in a fixed order, for functions that return plain lists."""
        nodes = (self.ids, self.hops, self.readout)
        edges = (self.sources, self.targets, self.features, self.spans, self.within)
        return [part[name] for part in nodes for name in NODE_SETS] + [
            part[name] for part in edges for name in self.edge_sets
        ]

    @classmethod
    def from_flat(cls, arrays: Sequence[Any], edge_sets: Sequence[str]) -> SampledSubgraph:
        """The inverse of `flat`.

        Args:
            arrays: What `flat` returned.
            edge_sets: `edge_sets` of that subgraph.
        """
        names = [NODE_SETS] * 3 + [tuple(edge_sets)] * 5
        remaining = iter(arrays)
        return cls(*({name: next(remaining) for name in group} for group in names))
