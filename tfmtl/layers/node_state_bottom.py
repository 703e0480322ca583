"""From a batch's sampled graph, or from looked-up states, to the graph states of its rows."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.attention_convolution import Edges
from tfmtl.layers.interaction_propagation import InteractionPropagation
from tfmtl.layers.multi_channel_gnn import MultiChannelGNN
from tfmtl.layers.node_states import STATES, NodeStates

Side = Literal["user", "item"]
GRAPH_SIDES: tuple[Side, ...] = ("user", "item")


class NodeStateBottom(keras.layers.Layer):
    """Initial states of nodes, a graph network over them, and its readout.

    A batch brings the states of its rows in one of two ways: `features["graph"]`, a sampled
    `GraphTensor` (training), or `features["states"]`, looked up in the `NodeStates` that
    `compute_node_states` made from the whole graph (evaluation and serving). A subclass says what
    nodes start from and which network follows.

    Shapes: B rows of a batch, N nodes of a side, d width of a readout.

    Call arguments: a batch's features with `graph` or `states`.
    Output: dict of the rows' states `float [B, d]`, keyed `"<channel>/<user or item>"`.

    Raises:
        ValueError: If a batch has neither graph nor states.

    Example:
        >>> from tfmtl.layers.graph_bottom import GraphBottom
        >>> issubclass(GraphBottom, NodeStateBottom)
        True
    """

    @property
    @abc.abstractmethod
    def network(self) -> MultiChannelGNN | InteractionPropagation:
        """The graph network."""

    @abc.abstractmethod
    def num_nodes(self, side: Side) -> int:
        """Number N of users or items."""

    @abc.abstractmethod
    def initial_states(self, side: Side, ids: tf.Tensor) -> tf.Tensor:
        """What nodes `ids` `int32 [N]` start from, `float [N, ...]`."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels that the network walks."""
        return self.network.channels

    @property
    def num_layers(self) -> int:
        """Hops of the network."""
        return self.network.num_layers

    @property
    def state_dim(self) -> int:
        """Width d of a readout."""
        return self.network.state_dim

    def outputs_of(self, side: str) -> tuple[str, ...]:
        """Keys of the states that describe users, or items, in channel order."""
        return self.network.outputs_of(side)

    def build(self, input_shape: Any = None) -> None:
        """Creates every weight, so that a checkpoint can be restored before the first batch."""
        del input_shape
        if not self.network.built:
            self.network.build(None)
        for side in GRAPH_SIDES:
            self.initial_states(side, tf.zeros([1], tf.int32))
        super().build(None)

    def call(self, features: Mapping[str, Any], training: bool | None = None) -> dict:
        """States `[B, d]` of the rows' users and items."""
        # Keras hands it on to a network that takes it.
        del training
        if STATES in features:
            return dict(features[STATES])
        if "graph" not in features:
            raise ValueError(
                f"the batch has neither 'graph' nor 'states'; it has {sorted(features)}: give the "
                "input pipeline a NeighborSampler, or look states up with compute_node_states"
            )
        graph = features["graph"]
        initial = {
            side: self.initial_states(side, graph.node_sets[side]["id"]) for side in GRAPH_SIDES
        }
        return self.network(graph, initial)

    def compute_node_states(
        self, edge_sets: Mapping[str, Edges], *, block_nodes: int = 2**15
    ) -> NodeStates:
        """Final states of all users and items over the whole graph.

        Args:
            edge_sets: NumPy edges per edge set name, sorted by target.
            block_nodes: Nodes whose initial states are made at one time.

        Returns:
            Tables to look states up in; storage O(E) + O(N d) while they are made.
        """
        states: dict[str, np.ndarray] = {}
        for side in GRAPH_SIDES:
            num_nodes = self.num_nodes(side)
            blocks = [
                self.initial_states(
                    side, tf.range(start, min(start + block_nodes, num_nodes))
                ).numpy()
                for start in range(0, num_nodes, block_nodes)
            ]
            states[side] = np.concatenate(blocks).astype(np.float32)
        if not self.network.built:
            self.network.build(None)
        return NodeStates(self.network.full_graph(edge_sets, states))
