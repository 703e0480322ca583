"""Draws the neighbourhood of a batch, inside `tf.data` or from NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_gnn as tfgnn

from tfmtl.data.python_function import python_function
from tfmtl.graph.csr import CSR
from tfmtl.graph.cumulative_weights import cumulative_weights
from tfmtl.graph.graph_bundle import GraphBundle
from tfmtl.graph.graph_tensor import graph_tensor_spec, to_graph_tensor
from tfmtl.graph.sampled_subgraph import SampledSubgraph
from tfmtl.graph.sampling_kernel import fold_seed, sample_subgraph
from tfmtl.graph.size_buckets import SizeBuckets
from tfmtl.graph.time_limits import time_limits
from tfmtl.graph.topology import CHANNELS, EDGE_SETS, FEATURE_DTYPES, NODE_SETS, edge_sets_of
from tfmtl.schema import ITEM_ID, TIME, USER_ID


def _frozen(values: np.ndarray) -> np.ndarray:
    """A read-only view: arrays from memory and from disk then share one compiled kernel."""
    view = np.ascontiguousarray(values).view(np.ndarray)
    view.flags.writeable = False
    return view


def _unsigned(behaviors: np.ndarray) -> np.ndarray:
    return behaviors.view(np.uint32) if behaviors.dtype == np.int32 else behaviors


def _alike(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The arrays, frozen and in one dtype that holds them all: the kernel picks one by number."""
    dtype = np.result_type(*(array.dtype for array in arrays))
    return tuple(_frozen(array.astype(dtype, copy=False)) for array in arrays)


_NO_EDGES = CSR(np.zeros(1, np.int32), np.zeros(0, np.int32), 0)
_INTERACTIONS = CHANNELS["interaction"]
_SIMILARITIES = tuple(name for name in EDGE_SETS if name not in _INTERACTIONS)


class NeighborSampler:
    """Draws, for a batch of (user, item) rows, the part of the graph that its scores depend on.

    In each channel the walk starts at the batch's users and items (those that the channel's edges
    reach) and takes one hop per entry of the fan-outs. A node is expanded once per channel, at the
    hop where the channel first finds it, so an L-layer network over the L-hop sample computes for
    every row what it would compute on a tree of that row's own.

    * **Draws.** Where a node has more neighbours than the fan-out, exactly that many distinct ones
      are drawn, each with probability fan_out / degree: the row is cut into `fan_out` strata
      floor(j degree / fan_out), one neighbour is drawn in each, and the strata are rotated by a
      uniform offset. O(fan_out), whatever the degree. Else all neighbours are taken.
    * **Weighted draws.** In the edge sets named by `weighted`, neighbours are drawn in proportion
      to the edge's `weight`: on the line of the row's weights, of total W, `fan_out` equally spaced
      points are moved by one uniform offset, and the neighbours they fall on are taken. Each is
      drawn with probability exactly min(1, fan_out w / W). Fewer than `fan_out` come where one
      neighbour outweighs W / fan_out, for it takes several points and is drawn once.
      O(fan_out log degree), from sums made once, 8 bytes per edge.
    * **Own edges.** With `mask_own_edges`, the edges between a row's user and item do not exist for
      the batch, in either direction: draws are from the remaining neighbours, so the fan-out is
      still met and the probabilities are exact.
    * **Time.** With `time_limit`, which needs stores that keep times, a row's walk uses only
      interaction edges from strictly before the row's time, however far the walk goes: the draws
      above are from that prefix, found by binary search. The row's own edge is never among them, so
      nothing is masked; earlier edges of the same pair are. A node is then an id and a limit: rows
      of different times share none, unless `time_granularity` floors their limits to the same
      moment. Similarity edges have no time and are used as they are.
    * **Determinism.** A draw depends on the seed, the edge set, the hop, the receiver's id and its
      limit alone: not on threads, nor on the rest of the batch.
    * **Order.** Nodes ascend by hop, edges by target, so layer l of L can work on a prefix of both.
    * **Sizes.** With `buckets`, every subgraph is padded to one of a few sizes, for compilers that
      want static shapes. Padding does not touch what is computed for the rows.

    The compiled kernel runs without the interpreter lock: `tf.data` samples on all cores.

    Args:
        bundle: The graph.
        fan_outs: Neighbours drawn per hop: one sequence for all edge sets, or a mapping with one
            for each edge set of the channels, all of one length. A fan-out no smaller than the
            highest degree takes all neighbours.
        channels: What to walk: `interaction`, `user_similarity`, `item_similarity`.
        mask_own_edges: Whether a row is kept from seeing its own edge; without a time limit.
        weighted: Edge sets whose neighbours are drawn in proportion to `weight`.
        time_limit: Whether a row sees only what happened before it; batches then bring `time`.
        time_granularity: Length of the periods to whose start limits are floored, in the log's unit
            of time; 0 for none. A row then sees only what happened before its period.
        buckets: Sizes to pad to, fitted to a sampler of the same options.

    Raises:
        ValueError: If a channel, an edge set or a fan-out is not usable, or the bundle lacks an
            edge set, weights or times.

    Example:
        >>> item_user = CSR.from_edges(np.array([1, 1, 2]), np.array([1, 2, 2]), 3, 3,
        ...                            {"behavior": np.ones(3, np.int32)})
        >>> bundle = GraphBundle({"item_user": item_user, "user_item": item_user.transpose()}, 3, 3)
        >>> sampler = NeighborSampler(bundle, fan_outs=(2, 2), channels=("interaction",))
        >>> graph = sampler.sample(np.array([1]), np.array([1]), seed=0)
        >>> graph.ids["user"].tolist(), graph.ids["item"].tolist(), graph.hops["item"].tolist()
        ([1, 2], [1, 2], [0, 1])
    """

    def __init__(
        self,
        bundle: GraphBundle,
        *,
        fan_outs: Sequence[int] | Mapping[str, Sequence[int]] = (10, 10),
        channels: Sequence[str] = tuple(CHANNELS),
        mask_own_edges: bool = True,
        weighted: Sequence[str] = (),
        time_limit: bool = False,
        time_granularity: float = 0,
        buckets: SizeBuckets | None = None,
    ):
        self.bundle = bundle
        self.edge_sets = edge_sets_of(channels)
        self.channels = tuple(channels)
        self.mask_own_edges = mask_own_edges
        missing = [name for name in self.edge_sets if name not in bundle.edge_sets]
        if missing:
            raise ValueError(
                f"channels {list(self.channels)} need edge sets {missing}; the bundle has "
                f"{list(bundle.edge_sets)}: build them, or leave the channel out"
            )
        self.fan_outs = self._checked_fan_outs(fan_outs)
        self.weighted = self._checked_weighted(weighted)
        self.time_limit = time_limit
        self.time_granularity = time_granularity
        self._check_order()
        if buckets is not None:
            buckets.check(self.edge_sets, len(self.fan_outs[self.edge_sets[0]]))
        self.buckets = buckets
        stores = [
            bundle.edge_sets[name] if name in self.edge_sets else _NO_EDGES for name in EDGE_SETS
        ]
        of = dict(zip(EDGE_SETS, stores, strict=True))
        self._indptrs = _alike([store.indptr for store in stores])
        self._neighbors = _alike([store.indices for store in stores])
        no_bits, no_weights = np.zeros(0, np.uint8), np.zeros(0, np.float32)
        self._behaviors = _alike(
            [_unsigned(of[name].data.get("behavior", no_bits)) for name in _INTERACTIONS]
        )
        # The kernel moves edge features as bits, so that behaviours and weights are one type.
        self._weights = tuple(
            weight.view(np.int32)
            for weight in _alike(
                [of[name].data.get("weight", no_weights) for name in _SIMILARITIES]
            )
        )
        no_times, no_sums = np.zeros(0, np.int32), np.zeros(0, np.float64)
        self._times = _alike(
            [of[name].data["time"] if time_limit else no_times for name in _INTERACTIONS]
        )
        self._cumulatives = _alike(
            [
                cumulative_weights(store) if name in self.weighted else no_sums
                for name, store in of.items()
            ]
        )
        self._active = np.array([name in self.edge_sets for name in EDGE_SETS])
        hops = len(self.fan_outs[self.edge_sets[0]])
        self._fan_out_table = np.array(
            [self.fan_outs.get(name, (0,) * hops) for name in EDGE_SETS], np.int64
        )
        self._num_nodes = np.array([bundle.num_users, bundle.num_items], np.int64)

    def _checked_fan_outs(
        self, fan_outs: Sequence[int] | Mapping[str, Sequence[int]]
    ) -> dict[str, tuple[int, ...]]:
        if not isinstance(fan_outs, Mapping):
            fan_outs = {name: fan_outs for name in self.edge_sets}
        if set(fan_outs) != set(self.edge_sets):
            raise ValueError(
                f"expected fan_outs for the edge sets {list(self.edge_sets)} of channels "
                f"{list(self.channels)}; received {list(fan_outs)}"
            )
        checked = {name: tuple(int(size) for size in fan_outs[name]) for name in self.edge_sets}
        if len({len(sizes) for sizes in checked.values()}) > 1 or not checked[self.edge_sets[0]]:
            raise ValueError(
                f"expected one fan-out per hop, as many for every edge set; received {checked}"
            )
        if any(size < 0 for sizes in checked.values() for size in sizes):
            raise ValueError(
                f"expected fan-outs >= 0 (a number above every degree takes all neighbours); "
                f"received {checked}"
            )
        return checked

    def _checked_weighted(self, weighted: Sequence[str]) -> tuple[str, ...]:
        if isinstance(weighted, str) or not set(weighted) <= set(self.edge_sets):
            raise ValueError(
                f"expected weighted as a sequence of names among the edge sets "
                f"{list(self.edge_sets)} of channels {list(self.channels)}; received {weighted!r}"
            )
        bare = [name for name in weighted if "weight" not in self.bundle.edge_sets[name].data]
        if bare:
            raise ValueError(
                f"edge sets {bare} have no 'weight' to draw in proportion to: leave them out of "
                "weighted"
            )
        return tuple(weighted)

    def _check_order(self) -> None:
        if not (np.isfinite(self.time_granularity) and self.time_granularity >= 0):
            raise ValueError(
                f"expected a time_granularity of at least 0; received {self.time_granularity}"
            )
        walked = [name for name in _INTERACTIONS if name in self.edge_sets]
        orders = {name: self.bundle.edge_sets[name].order for name in walked}
        if self.time_limit and not walked:
            raise ValueError(
                f"time_limit=True needs the channel 'interaction', whose edges alone have times; "
                f"received {list(self.channels)}"
            )
        if self.time_limit and set(orders.values()) != {"time"}:
            raise ValueError(
                f"time_limit=True needs edges in the order of time; the bundle's are {orders}: "
                "build it with keep_times=True"
            )
        if "time" in orders.values() and not self.time_limit and self.mask_own_edges:
            raise ValueError(
                f"own edges are found by column; the bundle's edges are {orders}: set "
                "time_limit=True, which never draws them, or mask_own_edges=False"
            )

    @property
    def needs_time(self) -> bool:
        """Whether batches must bring the time of their rows."""
        return self.time_limit

    @property
    def num_hops(self) -> int:
        """Hops of the walk: the layers of the network it is enough for."""
        return self._fan_out_table.shape[1]

    @property
    def spec(self) -> tfgnn.GraphTensorSpec:
        """Type of the graphs that calling the sampler returns."""
        return graph_tensor_spec(self.edge_sets)

    def sample(
        self,
        user_ids: np.ndarray,
        item_ids: np.ndarray,
        seed: int | Sequence[int] | np.ndarray,
        times: np.ndarray | None = None,
    ) -> SampledSubgraph:
        """Draws the subgraph of a batch.

        Args:
            user_ids: Encoded users, integers `[B]`; 0 is a node without neighbours.
            item_ids: Encoded items, integers `[B]`.
            seed: One integer or several; all words count.
            times: Time of each row, `[B]`, for a sampler with a time limit alone.

        Returns:
            The subgraph, NumPy arrays.

        Raises:
            ValueError: If the batch is empty, its columns differ in length, an id is out of range,
                times are missing or superfluous, or the subgraph fits no bucket.
        """
        columns = []
        for name, ids, size in zip(
            (USER_ID, ITEM_ID), (user_ids, item_ids), self._num_nodes, strict=True
        ):
            ids = np.asarray(ids)
            if ids.ndim != 1 or ids.size == 0:
                raise ValueError(
                    f"expected {name} of shape [B] with at least one row; received shape "
                    f"{list(ids.shape)}"
                )
            if ids.min() < 0 or ids.max() >= size:
                raise ValueError(
                    f"expected {name} in [0, {size}), the nodes of the bundle; received "
                    f"[{ids.min()}, {ids.max()}]: encode the log with the bundle's encoder"
                )
            columns.append(ids.astype(np.int32, copy=False))
        if columns[0].size != columns[1].size:
            raise ValueError(
                f"expected as many users as items; received {columns[0].size} and {columns[1].size}"
            )
        if (times is not None) != self.time_limit:
            raise ValueError(
                "the sampler has a time limit and received no times: pass the time of each row"
                if self.time_limit
                else "the sampler has no time limit and received times: set time_limit=True"
            )
        limits, moments = np.zeros(0, np.int64), np.zeros(0, np.int32)
        if times is not None:
            limits, moments = time_limits(times, columns[0].size, self.time_granularity)
        words = np.atleast_1d(np.asarray(seed, np.int64)).view(np.uint64)
        nodes, readout, edges, within = sample_subgraph(
            np.uint64(fold_seed(words)),
            np.stack(columns),
            moments,
            limits,
            self._indptrs,
            self._neighbors,
            self._behaviors,
            self._weights,
            self._times,
            self._cumulatives,
            self._active,
            self._fan_out_table,
            self._num_nodes,
            self.mask_own_edges and not self.time_limit,
        )
        # A feature comes back as bits.
        chosen = [
            (name, *edges[position], FEATURE_DTYPES[feature])
            for position, (name, (_, _, feature)) in enumerate(EDGE_SETS.items())
            if name in self.edge_sets
        ]
        graph = SampledSubgraph(
            {name: part[0] for name, part in zip(NODE_SETS, nodes, strict=True)},
            {name: part[1] for name, part in zip(NODE_SETS, nodes, strict=True)},
            dict(zip(NODE_SETS, readout, strict=True)),
            {name: part[0] for name, part, _, _ in chosen},
            {name: part[1] for name, part, _, _ in chosen},
            {name: part[2].view(dtype) for name, part, _, dtype in chosen},
            {name: spans for name, _, spans, _ in chosen},
            {
                name: part
                for name, part in zip(EDGE_SETS, within, strict=True)
                if name in self.edge_sets
            },
        )
        return graph if self.buckets is None else self.buckets.pad(graph, self.num_hops + 1)

    def __call__(self, features: Mapping[str, Any], seed: tf.Tensor) -> tfgnn.GraphTensor:
        """Draws the subgraph of a batch as a `GraphTensor`, eagerly or inside `tf.data`.

        Args:
            features: Holds `user_id` and `item_id`, integers `[B]`, and `time` `[B]` where
                `needs_time`; other entries are ignored.
            seed: Integers of any shape; all of them count.

        Returns:
            A `GraphTensor` of type `spec`.

        Raises:
            tf.errors.InvalidArgumentError: Where `sample` raises a ValueError.
        """
        ends = [tf.int32] * len(self.edge_sets)
        values = [tf.as_dtype(FEATURE_DTYPES[EDGE_SETS[name][2]]) for name in self.edge_sets]
        dtypes = [tf.int32] * 3 * len(NODE_SETS) + ends + ends + values + ends + ends
        columns = [features[USER_ID], features[ITEM_ID]]
        if self.time_limit:
            columns.append(features[TIME])
        arrays = python_function(
            lambda words, users, items, *times: self.sample(users, items, words, *times).flat(),
            [tf.reshape(tf.cast(seed, tf.int64), [-1]), *columns],
            dtypes,
        )
        subgraph = SampledSubgraph.from_flat(arrays, self.edge_sets)
        spans = {id(array) for array in subgraph.spans.values()}
        for array in arrays:
            array.set_shape([None, 2] if id(array) in spans else [None])
        return to_graph_tensor(subgraph)
