"""Macro nodes of a graph that no single machine holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np

from tfmtl.graph import MacroConfig
from tfmtl.graph.build_macro_graph import item_categories
from tfmtl.graph.interaction_stores import behavior_dtype
from tfmtl.graph.macro_groups import Groups, category_groups
from tfmtl.graph.neighborhood_sketch import random_projection
from tfmtl.graph.node_clusters import fit_centers, fitted_nodes, nearest_centers
from tfmtl.graph.preference_weights import preference_weights
from tfmtl.pipelines.beam.adjacency_block import AdjacencyBlock
from tfmtl.pipelines.beam.group_sums import group_sums
from tfmtl.pipelines.beam.load_encoder import load_encoder
from tfmtl.pipelines.beam.macro_shards import read_centers
from tfmtl.pipelines.beam.sum_through_neighbors import SumThroughNeighbors

Part = tuple[np.ndarray, np.ndarray]


class _HeldRows:
    """Rows of some nodes, as `fit_centers` and `nearest_centers` ask for them."""

    def __init__(self, nodes: np.ndarray, rows: np.ndarray) -> None:
        self._order = np.argsort(nodes)
        self._nodes, self._rows = nodes[self._order], rows

    def take(self, nodes: np.ndarray) -> np.ndarray:
        return self._rows[self._order[np.searchsorted(self._nodes, nodes)]]


class _Projection:
    """Rows of S^T Omega of a block."""

    def __init__(self, scores: np.ndarray, num_columns: int, dim: int, seed: int) -> None:
        self._scores, self._num_columns = scores, num_columns
        self._dim, self._seed = dim, seed

    def __call__(self, block: AdjacencyBlock) -> np.ndarray:
        bits = block.values.astype(behavior_dtype(len(self._scores).bit_length() - 1))
        edges = block.to_csr(self._num_columns, behavior=bits)
        return random_projection(edges, self._scores, self._dim, self._seed)


def _blocks(block: AdjacencyBlock, block_rows: int) -> Iterator[AdjacencyBlock]:
    for _, part in block.split(block_rows):
        yield part


def _summed_scores(block: AdjacencyBlock, scores: np.ndarray) -> Part:
    sums = np.add.reduceat(scores[block.values], block.indptr[:-1], dtype=np.float64)
    return block.rows, sums


def _scattered(parts: list[Part], size: int, dtype: Any) -> np.ndarray:
    values = np.zeros(size, dtype)
    for nodes, part in parts:
        values[nodes] = part
    return values


def _weights(
    _: None, sums: list[Part], size: int, threshold: float, config: MacroConfig
) -> np.ndarray:
    return preference_weights(
        _scattered(sums, size, np.float64),
        threshold,
        activity=config.activity,
        weighting=config.weighting,
    )


def _sample(weights: np.ndarray, count: int, seed: int, noun: str) -> np.ndarray:
    return fitted_nodes(weights, count, seed=seed, noun=noun)[0]


def _sampled(part: Part, sample: np.ndarray) -> Iterator[Part]:
    nodes, rows = part
    chosen = np.isin(nodes, sample)
    if chosen.any():
        yield nodes[chosen], rows[chosen]


def _centers(
    weights: np.ndarray, sampled: list[Part], count: int, seed: int, noun: str
) -> np.ndarray:
    nodes, rows = (np.concatenate(arrays) for arrays in zip(*sampled, strict=True))
    return fit_centers(_HeldRows(nodes, rows), weights, count, seed=seed, noun=noun)


def _nearest(part: Part, centers: np.ndarray) -> Part:
    nodes, rows = part
    held = _HeldRows(np.arange(len(rows)), rows)
    return nodes, nearest_centers(held, centers, np.ones(len(rows), np.bool_))


def _groups(weights: np.ndarray, numbers: list[Part], centers: np.ndarray, count: int) -> Groups:
    return Groups(_scattered(numbers, len(weights), np.int32), weights, count, centers)


def _categories(weights: np.ndarray, encoder_folder: str, feature: str) -> Groups:
    categories = item_categories(load_encoder(encoder_folder), feature)
    assert categories is not None
    numbers = category_groups(categories, len(weights))
    return Groups(numbers, weights, int(numbers.max(initial=0)))


def _sums_over_items(block: AdjacencyBlock, items: Groups, scores: np.ndarray) -> Part:
    return block.rows, group_sums(block, scores[block.values], items)


class MacroGrouping(beam.PTransform):
    """Groups users by their rows of S S^T and items by theirs of S^T S.

    The groups are those of `tfmtl.graph.macro_groups.group_nodes`, whose weights, sketches, samples
    and seeds are documented there; sums come in another order, so that a node as near to two
    centres as floating point can tell may join the other one. Sketches are made and clustered in
    blocks of nodes; one worker holds the weights of all nodes of a side, 4 bytes each, and fits the
    centres to the same sample of nodes.

    Args:
        config: Numbers of macro nodes, thresholds, and what users are clustered on.
        scores: Score per combination of behaviours, `float32 [2^T]`.
        num_users: Number of user ids, the unknown one included.
        num_items: Number of item ids, the unknown one included.
        encoder_folder: Where `FeatureEncoder.save` wrote; read for `config.item_groups` alone.
        centers_folder: Where `write_groups` wrote those of a graph of more rows: nodes join the
            nearest of its centres. New ones are fitted when left out.
        block_rows: Users, or items, whose rows a worker holds at one time.

    Input: a dictionary: `item_user` and `user_item`, collections of `AdjacencyBlock`s with
    behaviours.
    Output: a dictionary: `user` and `item`, each a collection of one
    `tfmtl.graph.macro_groups.Groups`.

    References:
        MGOE (KDD 2026), preference-based grouping. MacGNN (WWW 2024): categories as macro items,
        users clustered on their counts of categories.

    Example:
        >>> items = AdjacencyBlock.from_pairs(np.array([11, 21, 32]), np.ones(3, np.int32), 10)
        >>> users = AdjacencyBlock.from_pairs(np.array([11, 12, 23]), np.ones(3, np.int32), 10)
        >>> grouping = MacroGrouping(MacroConfig(user_nodes=2, item_nodes=2),
        ...                          np.array([0, 1], np.float32), num_users=4, num_items=3)
        >>> with beam.Pipeline() as pipeline:
        ...     edges = {"item_user": pipeline | "Items" >> beam.Create([items]),
        ...              "user_item": pipeline | "Users" >> beam.Create([users])}
        ...     numbers = edges | grouping
        ...     alike = numbers["user"] | beam.Map(lambda user: user.numbers[1] == user.numbers[2])
        ...     _ = alike | beam.Map(print)
        True
    """

    def __init__(
        self,
        config: MacroConfig,
        scores: np.ndarray,
        *,
        num_users: int,
        num_items: int,
        encoder_folder: str = "",
        centers_folder: str | None = None,
        block_rows: int = 1024,
    ) -> None:
        super().__init__()
        self._config = config
        self._scores = scores
        self._sizes = {"user": num_users, "item": num_items}
        self._encoder_folder = encoder_folder
        self._centers_folder = centers_folder
        self._block_rows = block_rows

    def expand(self, edges: dict[str, beam.PCollection]) -> dict[str, beam.PCollection]:
        """Applies the transform.

        Args:
            edges: Edges grouped by user and by item.
        """
        config = self._config
        # As in group_nodes: items' sketch, their clusters, users' sketch, their clusters.
        seeds = [int(value) for value in np.random.SeedSequence(config.seed).generate_state(4)]
        by_user, by_item = (
            edges[name] | f"Split {name}" >> beam.FlatMap(_blocks, self._block_rows)
            for name in ("item_user", "user_item")
        )
        weights_of_users = self._weighed(by_user, "user", config.user_threshold)
        weights_of_items = self._weighed(by_item, "item", config.item_threshold)
        if config.item_groups is None:
            rows = self._sketched(by_user, "item", seeds[0])
            items = self._clustered(rows, weights_of_items, "item", config.item_nodes, seeds[1])
        else:
            items = weights_of_items | "Categories" >> beam.Map(
                _categories, self._encoder_folder, config.item_groups
            )
        if config.cluster_users_on == "item_groups":
            rows = by_user | "SumOverItems" >> beam.Map(
                _sums_over_items, beam.pvalue.AsSingleton(items), self._scores
            )
        else:
            rows = self._sketched(by_item, "user", seeds[2])
        users = self._clustered(rows, weights_of_users, "user", config.user_nodes, seeds[3])
        return {"user": users, "item": items}

    def _weighed(self, blocks: beam.PCollection, side: str, threshold: float) -> beam.PCollection:
        sums = blocks | f"Sum scores of {side}s" >> beam.Map(_summed_scores, self._scores)
        return (
            blocks.pipeline
            | f"Start {side}s" >> beam.Create([None])
            | f"Weigh {side}s"
            >> beam.Map(
                _weights, beam.pvalue.AsList(sums), self._sizes[side], threshold, self._config
            )
        )

    def _sketched(self, neighbors: beam.PCollection, side: str, seed: int) -> beam.PCollection:
        rows_of: Callable[[AdjacencyBlock], np.ndarray] = _Projection(
            self._scores, self._sizes[side], self._config.sketch_dim, seed
        )
        sketch = SumThroughNeighbors(rows_of, self._scores, block_rows=self._block_rows)
        return neighbors | f"Sketch {side}s" >> sketch | f"Rows of {side}s" >> beam.Values()

    def _clustered(
        self,
        rows: beam.PCollection,
        weights: beam.PCollection,
        side: str,
        count: int,
        seed: int,
    ) -> beam.PCollection:
        noun = f"{side}s"
        if self._centers_folder is None:
            sample = weights | f"Sample {noun}" >> beam.Map(_sample, count, seed, noun)
            sampled = rows | f"Take sampled {noun}" >> beam.FlatMap(
                _sampled, beam.pvalue.AsSingleton(sample)
            )
            fitted = weights | f"Fit centres of {noun}" >> beam.Map(
                _centers, beam.pvalue.AsList(sampled), count, seed, noun
            )
        else:
            folder = rows.pipeline | f"Folder of {noun}" >> beam.Create([self._centers_folder])
            fitted = folder | f"Read centres of {noun}" >> beam.Map(read_centers, side)
        centers = beam.pvalue.AsSingleton(fitted)
        numbers = rows | f"Assign {noun}" >> beam.Map(_nearest, centers)
        return weights | f"Collect {noun}" >> beam.Map(
            _groups, beam.pvalue.AsList(numbers), centers, count
        )
