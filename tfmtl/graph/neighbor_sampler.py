"""Draws the neighbourhood of a batch, inside `tf.data` or from NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_gnn as tfgnn

from tfmtl.graph.csr import CSR
from tfmtl.graph.graph_bundle import GraphBundle
from tfmtl.graph.graph_tensor import graph_tensor_spec, to_graph_tensor
from tfmtl.graph.sampled_subgraph import SampledSubgraph
from tfmtl.graph.sampling_kernel import fold_seed, sample_subgraph
from tfmtl.graph.topology import CHANNELS, EDGE_SETS, NODE_SETS, edge_sets_of
from tfmtl.schema import ITEM_ID, USER_ID


def _frozen(values: np.ndarray) -> np.ndarray:
    """A read-only view: arrays from memory and from disk then share one compiled kernel."""
    view = np.ascontiguousarray(values).view(np.ndarray)
    view.flags.writeable = False
    return view


_NO_EDGES = CSR(np.zeros(1, np.int64), np.zeros(0, np.int32), 0)


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
    * **Own edges.** With `mask_own_edges`, the edges between a row's user and item do not exist for
      the batch, in either direction: draws are from the remaining neighbours, so the fan-out is
      still met and the probabilities are exact.
    * **Determinism.** A draw depends on the seed, the edge set, the hop and the receiver's id
      alone: not on threads, nor on the rest of the batch.
    * **Order.** Nodes ascend by hop, edges by target, so layer l of L can work on a prefix of both.

    The compiled kernel runs without the interpreter lock: `tf.data` samples on all cores.

    Args:
        bundle: The graph.
        fan_outs: Neighbours drawn per hop: one sequence for all edge sets, or a mapping with one
            for each edge set of the channels, all of one length. A fan-out no smaller than the
            highest degree takes all neighbours.
        channels: What to walk: `interaction`, `user_similarity`, `item_similarity`.
        mask_own_edges: Whether a row is kept from seeing its own edge.

    Raises:
        ValueError: If a channel, an edge set or a fan-out is not usable, or the bundle lacks an
            edge set.

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
        stores = [
            bundle.edge_sets[name] if name in self.edge_sets else _NO_EDGES for name in EDGE_SETS
        ]
        self._indptrs = tuple(_frozen(store.indptr) for store in stores)
        self._neighbors = tuple(_frozen(store.indices) for store in stores)
        # The kernel moves edge features as bits, so that behaviours and weights are one type.
        self._features = tuple(
            _frozen(store.data[EDGE_SETS[name][2]]).view(np.int32)
            if name in self.edge_sets
            else _frozen(store.indices)
            for name, store in zip(EDGE_SETS, stores, strict=True)
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

    @property
    def num_hops(self) -> int:
        """Hops of the walk: the layers of the network it is enough for."""
        return self._fan_out_table.shape[1]

    @property
    def spec(self) -> tfgnn.GraphTensorSpec:
        """Type of the graphs that calling the sampler returns."""
        return graph_tensor_spec(self.edge_sets)

    def sample(
        self, user_ids: np.ndarray, item_ids: np.ndarray, seed: int | Sequence[int] | np.ndarray
    ) -> SampledSubgraph:
        """Draws the subgraph of a batch.

        Args:
            user_ids: Encoded users, integers `[B]`; 0 is a node without neighbours.
            item_ids: Encoded items, integers `[B]`.
            seed: One integer or several; all words count.

        Returns:
            The subgraph, NumPy arrays.

        Raises:
            ValueError: If the batch is empty, its columns differ in length, or an id is out of
                range.
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
        words = np.atleast_1d(np.asarray(seed, np.int64)).view(np.uint64)
        nodes, readout, edges = sample_subgraph(
            np.uint64(fold_seed(words)),
            np.stack(columns),
            self._indptrs,
            self._neighbors,
            self._features,
            self._active,
            self._fan_out_table,
            self._num_nodes,
            self.mask_own_edges,
        )
        # A feature comes back as bits; its store says what they mean.
        chosen = [
            (name, edges[position], self.bundle.edge_sets[name].data[feature].dtype)
            for position, (name, (_, _, feature)) in enumerate(EDGE_SETS.items())
            if name in self.edge_sets
        ]
        return SampledSubgraph(
            {name: part[0] for name, part in zip(NODE_SETS, nodes, strict=True)},
            {name: part[1] for name, part in zip(NODE_SETS, nodes, strict=True)},
            dict(zip(NODE_SETS, readout, strict=True)),
            {name: part[0] for name, part, _ in chosen},
            {name: part[1] for name, part, _ in chosen},
            {name: part[2].view(dtype) for name, part, dtype in chosen},
        )

    def __call__(self, features: Mapping[str, Any], seed: tf.Tensor) -> tfgnn.GraphTensor:
        """Draws the subgraph of a batch as a `GraphTensor`, eagerly or inside `tf.data`.

        Args:
            features: Holds `user_id` and `item_id`, integers `[B]`; other entries are ignored.
            seed: Integers of any shape; all of them count.

        Returns:
            A `GraphTensor` of type `spec`.

        Raises:
            tf.errors.InvalidArgumentError: Where `sample` raises a ValueError.
        """
        dtypes = [tf.int32] * (2 * len(self.edge_sets) + 3 * len(NODE_SETS)) + [
            tf.as_dtype(self.bundle.edge_sets[name].data[EDGE_SETS[name][2]].dtype)
            for name in self.edge_sets
        ]
        arrays = tf.numpy_function(
            lambda users, items, words: self.sample(users, items, words).flat(),
            [features[USER_ID], features[ITEM_ID], tf.reshape(tf.cast(seed, tf.int64), [-1])],
            dtypes,
            stateful=False,
        )
        for array in arrays:
            array.set_shape([None])
        return to_graph_tensor(SampledSubgraph.from_flat(arrays, self.edge_sets))
