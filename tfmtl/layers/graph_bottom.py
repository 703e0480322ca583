"""Graph states of rows from the features of nodes and a multi-channel GNN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfmtl.graph.topology import CHANNELS
from tfmtl.layers.attention_convolution import Attention
from tfmtl.layers.depth_gate import Depth
from tfmtl.layers.feature_embedding import FeatureEmbedding, PackedFeatures
from tfmtl.layers.multi_channel_gnn import MultiChannelGNN
from tfmtl.layers.node_features import NodeFeatures
from tfmtl.layers.node_state_bottom import GRAPH_SIDES, NodeStateBottom, Side


class GraphBottom(NodeStateBottom):
    """Projected node features as initial states, a multi-channel GNN over them, and its readout.

        p_u = W_p x_u,  q_i = W_q x_i        h = MGNN(p, q)        (MoGENet equations 1 and 2)

    A batch brings the states of its rows in one of two ways: `features["graph"]`, a sampled
    `GraphTensor` (training), or `features["states"]`, looked up in the `NodeStates` that
    `compute_node_states` made from the whole graph (evaluation and serving).

    Shapes: B rows of a batch, N nodes of a side, d state width.

    Args:
        embedding: The model's embedding of features, which nodes and rows share.
        node_features: Encoded features of all nodes, `{"user": {name: [N, ...]}, "item": ...}`.
        num_tasks: Number of tasks, whose behaviours are the bits on interaction edges.
        dim: Width d of the states.
        channels: Channels of the GNN.
        num_layers: Hops L.
        attention: `dot` or `additive`.
        depth: `lstm` or `geniepath`.
        edge_behaviors: Whether attention sees which behaviours an interaction edge stands for.
        use_edge_weight: Whether attention sees the similarity of G^U and G^I.
        max_neighbors: Most neighbours that a node of a sampled graph has, see
            `AttentionConvolution`; None takes any number. An experiment fills in its largest
            fan-out.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: a batch's features with `graph` or `states`.
    Output: dict of the rows' states `float [B, d]`, keyed `"<channel>/<user or item>"`.

    Raises:
        ValueError: If a side has no inputs, or a batch has neither graph nor states.

    Example:
        >>> from tfmtl.data.input_spec import InputSpec
        >>> from tfmtl.layers import Edges
        >>> inputs = [InputSpec("user_id", "categorical", "user", 3, 1),
        ...           InputSpec("item_id", "categorical", "item", 4, 1)]
        >>> nodes = {"user": {"user_id": np.arange(3)}, "item": {"item_id": np.arange(4)}}
        >>> embedding = FeatureEmbedding(inputs, dim=4)
        >>> embedding.build(None)
        >>> bottom = GraphBottom(
        ...     embedding, nodes, 1, dim=8, channels=["interaction"], num_layers=1)
        >>> edges = Edges(np.array([1, 2], np.int32), np.array([1, 2], np.int32))
        >>> states = bottom.compute_node_states({"item_user": edges, "user_item": edges})
        >>> row = {"user_id": tf.constant([1]), "item_id": tf.constant([2])}
        >>> {key: state.shape.as_list() for key, state in bottom(states(row)).items()}
        {'interaction/user': [1, 8], 'interaction/item': [1, 8]}
    """

    def __init__(
        self,
        embedding: FeatureEmbedding,
        node_features: Mapping[str, Mapping[str, np.ndarray]],
        num_tasks: int,
        *,
        dim: int = 64,
        channels: Sequence[str] = tuple(CHANNELS),
        num_layers: int = 2,
        attention: Attention = "dot",
        depth: Depth = "lstm",
        edge_behaviors: bool = False,
        use_edge_weight: bool = False,
        max_neighbors: int | None = None,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.embedding = embedding
        featureless = [side for side in GRAPH_SIDES if not embedding.width(side)]
        if featureless:
            raise ValueError(
                f"nodes of the sides {featureless} have no inputs to start from: keep their ids "
                "or give them features"
            )
        self.mgnn = MultiChannelGNN(
            dim,
            channels=channels,
            num_layers=num_layers,
            attention=attention,
            depth=depth,
            num_behaviors=2**num_tasks if edge_behaviors else 0,
            use_edge_weight=use_edge_weight,
            max_neighbors=max_neighbors,
            l2=l2,
            name="mgnn",
        )
        self.node_features = {
            side: NodeFeatures.from_columns(
                embedding, side, node_features[side], name=f"{side}_node_features"
            )
            for side in GRAPH_SIDES
        }
        self.projections = {
            side: keras.layers.Dense(
                dim,
                kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
                name=f"{side}_projection",
            )
            for side in GRAPH_SIDES
        }

    @property
    def network(self) -> MultiChannelGNN:
        """The multi-channel GNN."""
        return self.mgnn

    def num_nodes(self, side: Side) -> int:
        """Number N of users or items."""
        return self.node_features[side].num_nodes

    def initial_states(self, side: Side, ids: tf.Tensor) -> tf.Tensor:
        """p_u or q_i, `float [N, d]`, of nodes `ids` `int32 [N]`."""
        packed: PackedFeatures = self.node_features[side](ids)
        return self.projections[side](self.embedding.embed(packed, side))
