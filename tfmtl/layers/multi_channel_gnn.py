"""MoGENet's multi-channel graph neural network (MGNN)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_gnn as tfgnn
import tf_keras as keras

from tfmtl.graph.topology import CHANNELS, EDGE_SETS, edge_sets_of
from tfmtl.layers.attention_convolution import Attention, AttentionConvolution, Edges
from tfmtl.layers.depth_gate import Depth, DepthGate


@keras.utils.register_keras_serializable(package="tfmtl")
class MultiChannelGNN(keras.layers.Layer):
    """L layers of attention convolution and depth gate in each channel.

    The channels are the bipartite interaction graph G and the similarity graphs G^U and G^I. They
    start from the same node states, and each has one convolution and one gate, shared by its
    layers and node types.

    In a sampled sub-graph a node that a channel finds at hop n is needed in its first L - n layers
    only. Nodes come sorted by hop and edges by target, so every layer works on a prefix of both.

    XLA compiles the layer anew for every number of nodes and edges, which in sampled sub-graphs is
    every batch. With `jit_compile`, sample with `SizeBuckets` and give `max_neighbors`: it is then
    compiled once per bucket.

    Shapes: U user nodes, I item nodes, B rows, d state width.

    Args:
        dim: Width d of the states.
        channels: Any of `interaction`, `user_similarity`, `item_similarity`.
        num_layers: Number of hops L.
        attention: See `AttentionConvolution`.
        depth: See `DepthGate`.
        num_behaviors: Behaviour combinations on interaction edges; 0 ignores them.
        use_edge_weight: Whether similarity enters the attention of the similarity channels.
        max_neighbors: See `AttentionConvolution`.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: a `tfgnn.GraphTensor` as `NeighborSampler` makes it, and the initial states
    `{"user": [U, d], "item": [I, d]}`.
    Output: dict with the readout `[B, d]` of every `(channel, node set)`, keyed
    `"interaction/user"`, `"interaction/item"`, `"user_similarity/user"`, `"item_similarity/item"`.

    Raises:
        ValueError: If a channel is unknown or repeated, or there are no layers.

    References:
        MoGENet equations 1 and 2.

    Example:
        >>> layer = MultiChannelGNN(16, channels=["interaction", "item_similarity"])
        >>> layer.outputs_of("item")
        ('interaction/item', 'item_similarity/item')
    """

    def __init__(
        self,
        dim: int,
        *,
        channels: Sequence[str] = tuple(CHANNELS),
        num_layers: int = 2,
        attention: Attention = "dot",
        depth: Depth = "lstm",
        num_behaviors: int = 0,
        use_edge_weight: bool = False,
        max_neighbors: int | None = None,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        edge_sets_of(self.channels)
        if num_layers < 1 or dim < 1:
            raise ValueError(
                "expected a positive dim and at least one layer; "
                f"received dim={dim}, num_layers={num_layers}"
            )
        self.dim = int(dim)
        self.num_layers = int(num_layers)
        self.attention = attention
        self.depth = depth
        self.num_behaviors = int(num_behaviors)
        self.use_edge_weight = bool(use_edge_weight)
        self.max_neighbors = max_neighbors
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates every channel's weights."""
        self._convolutions, self._gates = {}, {}
        for channel in self.channels:
            interaction = channel == "interaction"
            self._convolutions[channel] = AttentionConvolution(
                attention=self.attention,
                num_behaviors=self.num_behaviors if interaction else 0,
                use_edge_weight=self.use_edge_weight and not interaction,
                max_neighbors=self.max_neighbors,
                l2=self.l2,
                dtype=self.dtype_policy,
                name=f"{channel}_convolution",
            )
            self._gates[channel] = DepthGate(
                depth=self.depth, l2=self.l2, dtype=self.dtype_policy, name=f"{channel}_gate"
            )
            for layer in (self._convolutions[channel], self._gates[channel]):
                with tf.name_scope(layer.name):
                    layer.build([None, self.dim])
        super().build(input_shape)

    @property
    def state_dim(self) -> int:
        """Width of a readout: that of the states."""
        return self.dim

    def outputs_of(self, node_set: str) -> tuple[str, ...]:
        """Keys of the outputs that describe `node_set`, in channel order."""
        return tuple(
            f"{channel}/{node_set}"
            for channel in self.channels
            if any(EDGE_SETS[edge_set][1] == node_set for edge_set in CHANNELS[channel])
        )

    def call(
        self, graph: tfgnn.GraphTensor, states: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Readout states `[B, d]` of the batch's users and items in every channel."""
        within = graph.node_sets["_hops"]
        outputs = {}
        for channel in self.channels:
            edge_sets = {name: Edges.from_graph(graph, name) for name in CHANNELS[channel]}
            current = _receivers(channel, states)
            cells = dict(current)
            for layer in range(self.num_layers):
                last_hop = self.num_layers - 1 - layer
                following, following_cells = {}, {}
                for edge_set, edges in edge_sets.items():
                    sender, name, _ = EDGE_SETS[edge_set]
                    active = within[edge_set][last_hop]
                    prefix = edges.to_first(active, by_span=self.max_neighbors is not None)
                    if layer:
                        # Prefixes may hold nodes that this channel finds later or not at all. Their
                        # edges then reach nodes without a state by now; no readout needs them.
                        last = tf.shape(current[sender])[0] - 1
                        prefix = prefix._replace(source=tf.minimum(prefix.source, last))
                    target = current[name][:active]
                    cell = cells[name][:active] if layer else target
                    message = self._convolutions[channel](target, current[sender], prefix)
                    following[name], following_cells[name] = self._gates[channel](
                        message, target, cell
                    )
                current, cells = following, following_cells
            for name, state in current.items():
                readout = graph.edge_sets[f"_readout/{name}"].adjacency.source
                outputs[f"{channel}/{name}"] = tf.gather(state, readout)
        return outputs

    def full_graph(
        self, edge_sets: Mapping[str, Edges], states: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """States of all nodes after L layers over whole graphs.

        Args:
            edge_sets: NumPy edges per edge set name, sorted by target.
            states: Initial states `{"user": float32 [U, d], "item": float32 [I, d]}`.

        Returns:
            `float32 [U, d]` or `[I, d]` per output key: what `call` returns for a sub-graph
            sampled with every neighbour.
        """
        outputs = {}
        for channel in self.channels:
            current = _receivers(channel, states)
            cells = dict(current)
            for _ in range(self.num_layers):
                following, following_cells = {}, {}
                for edge_set in CHANNELS[channel]:
                    sender, name, _ = EDGE_SETS[edge_set]
                    message = self._convolutions[channel].full_graph(
                        current[name], current[sender], edge_sets[edge_set]
                    )
                    # Not __call__, which would cast: states are float32 under any policy.
                    state, cell = self._gates[channel].call(
                        *(
                            tf.convert_to_tensor(part)
                            for part in (message, current[name], cells[name])
                        )
                    )
                    following[name], following_cells[name] = state.numpy(), cell.numpy()
                current, cells = following, following_cells
            outputs.update({f"{channel}/{name}": state for name, state in current.items()})
        return outputs

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "channels": list(self.channels),
            "num_layers": self.num_layers,
            "attention": self.attention,
            "depth": self.depth,
            "num_behaviors": self.num_behaviors,
            "use_edge_weight": self.use_edge_weight,
            "max_neighbors": self.max_neighbors,
            "l2": self.l2,
        }


def _receivers(channel: str, states: Mapping[str, Any]) -> dict[str, Any]:
    return {EDGE_SETS[name][1]: states[EDGE_SETS[name][1]] for name in CHANNELS[channel]}
