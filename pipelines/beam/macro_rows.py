"""Macro neighbourhoods of a graph that no single machine holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np

from tfmtl.graph.interaction_stores import behavior_dtype
from tfmtl.graph.macro_groups import Groups
from tfmtl.graph.recent_neighbors import recent_neighbors
from tfmtl.pipelines.beam.adjacency_block import AdjacencyBlock
from tfmtl.pipelines.beam.adjacency_shards import LATEST_TIMES
from tfmtl.pipelines.beam.group_sums import group_sums
from tfmtl.pipelines.beam.macro_shards import Rows, SharedGroups
from tfmtl.pipelines.beam.sum_through_neighbors import SumThroughNeighbors

# Edge set -> the side of its receivers, and that of its sources.
_SIDES = {"item_user": ("user", "item"), "user_item": ("item", "user")}


class _FirstHop:
    """Rows of S W C of a block's receivers."""

    def __init__(self, groups: SharedGroups, scores: np.ndarray, sources: str) -> None:
        self._groups = groups
        self._scores = scores
        self._sources = sources

    def __call__(self, block: AdjacencyBlock) -> np.ndarray:
        groups: Groups = getattr(self._groups.read(), self._sources)
        strengths = self._scores[block.values] * groups.weights[block.indices]
        return group_sums(block, strengths, groups)


class _MakeRows(beam.DoFn):
    """Edges, times and second hop of a block of nodes to their rows of the tables."""

    def __init__(
        self, groups: SharedGroups, scores: np.ndarray, recent: int, receivers: str, sources: str
    ) -> None:
        self._groups = groups
        self._scores = scores
        self._recent = recent
        self._receivers, self._sources = receivers, sources
        self._first_hop = _FirstHop(groups, scores, sources)

    def process(self, element: tuple[int, Mapping[str, Iterable[Any]]]) -> Iterator[Rows]:
        _, parts = element
        edges = AdjacencyBlock.joined(parts["edges"])
        own: Groups = getattr(self._groups.read(), self._receivers)
        other: Groups = getattr(self._groups.read(), self._sources)
        second = np.zeros((edges.rows.size, own.count + 1), np.float32)
        for nodes, sums in parts["second"]:
            second[np.searchsorted(edges.rows, nodes)] = sums
        num_tasks = len(self._scores).bit_length() - 1
        tasks = [group_sums(edges, edges.values >> task & 1, other) for task in range(num_tasks)]
        macro = np.concatenate([self._first_hop(edges), second, *tasks], axis=1)
        data = {"behavior": edges.values.astype(behavior_dtype(num_tasks))}
        if "times" in parts:
            times = AdjacencyBlock.joined(parts["times"])
            if not np.array_equal(times.indices, edges.indices):
                raise ValueError(
                    f"expected a latest time for each of {edges.indices.size} edges; received "
                    f"{times.indices.size} of other edges: run the adjacency job again, into "
                    "another folder"
                )
            data["time"] = times.values
        store = edges.to_csr(len(other.numbers), **data)
        latest = recent_neighbors(store, self._scores, self._recent)
        neighbors, behaviors = (np.concatenate(arrays) for arrays in zip(*latest, strict=True))
        yield edges.rows, np.log1p(macro, out=macro).astype(np.float16), neighbors, behaviors


class MacroRows(beam.PTransform):
    """The macro neighbourhood and the latest neighbours of every user and item.

    The rows are those of `tfmtl.graph.macro_tables.MacroTables` and `recent_neighbors`, up to the
    order of sums. The first hop needs macro nodes and weights of the neighbours, 8 bytes per node,
    which every worker process reads once; for the second, a block passes its own first hop on to
    its neighbours.

    Args:
        folder: Folder of the groups, which `write_groups` and the macro job wrote.
        scores: Score per combination of behaviours, `float32 [2^T]`.
        recent: Latest neighbours L that are kept per node.
        block_rows: Users, or items, whose rows a worker holds at one time.

    Input: a dictionary: `item_user` and `user_item`, collections of `AdjacencyBlock`s with
    behaviours, and, where times are known, `item_user_time` and `user_item_time`.
    Output: a dictionary: `user` and `item`, collections of nodes `int32 [n]`, their rows
    `float16 [n, W]`, latest neighbours `int32 [n, L]` and their behaviours `[n, L]`.

    References:
        MGOE (KDD 2026), macro task merging graph; MacGNN (WWW 2024) is the case S = A, W = 1.
    """

    def __init__(
        self, folder: str, scores: np.ndarray, *, recent: int = 20, block_rows: int = 1024
    ) -> None:
        super().__init__()
        self._groups = SharedGroups(folder)
        self._scores = scores
        self._recent = recent
        self._block_rows = block_rows

    def expand(self, edges: dict[str, beam.PCollection]) -> dict[str, beam.PCollection]:
        """Applies the transform.

        Args:
            edges: Edges grouped by user and by item, and their times.
        """
        parts: dict[str, dict[str, beam.PCollection]] = {"user": {}, "item": {}}
        for name, (receivers, sources) in _SIDES.items():
            split = edges[name] | f"Split {name}" >> beam.FlatMap(
                AdjacencyBlock.split, self._block_rows
            )
            parts[receivers]["edges"] = split
            if LATEST_TIMES[name] in edges:
                parts[receivers]["times"] = edges[LATEST_TIMES[name]] | (
                    f"Split times of {name}" >> beam.FlatMap(AdjacencyBlock.split, self._block_rows)
                )
            passed_on = SumThroughNeighbors(
                _FirstHop(self._groups, self._scores, sources),
                self._scores,
                block_rows=self._block_rows,
            )
            parts[sources]["second"] = (
                split | f"Blocks of {name}" >> beam.Values() | f"Pass {receivers}s on" >> passed_on
            )
        return {
            receivers: parts[receivers]
            | f"Join {receivers}s" >> beam.CoGroupByKey()
            | f"Rows of {receivers}s"
            >> beam.ParDo(_MakeRows(self._groups, self._scores, self._recent, receivers, sources))
            for receivers, sources in _SIDES.values()
        }
