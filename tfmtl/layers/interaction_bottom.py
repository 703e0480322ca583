"""Graph states of rows from the ids of nodes and propagation over the interaction graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfmtl.graph.graph_bundle import GraphBundle
from tfmtl.layers.attention_convolution import Edges
from tfmtl.layers.feature_embedding import FeatureEmbedding
from tfmtl.layers.interaction_propagation import InteractionPropagation
from tfmtl.layers.node_state_bottom import NodeStateBottom, Side
from tfmtl.schema import ITEM_ID, USER_ID

_IDS = {"user": USER_ID, "item": ITEM_ID}


class InteractionBottom(NodeStateBottom):
    """Embeddings of ids as initial states, propagation over interactions, and its readout.

    A batch brings the states of its rows in one of two ways: `features["graph"]`, a sampled
    `GraphTensor` (training), or `features["states"]`, looked up in the `NodeStates` that
    `compute_node_states` made from the whole graph (evaluation and serving).

    Shapes: B rows of a batch, N nodes of a side, d width of a readout.

    Args:
        embedding: An embedding of `user_id` and `item_id` and nothing else.
        propagation: The network.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: a batch's features with `graph` or `states`.
    Output: dict of the rows' states `float [B, d]`, `"interaction/user"` and `"interaction/item"`.

    Raises:
        ValueError: If a batch has neither graph nor states.
        tf.errors.InvalidArgumentError: If a batch brings a graph before `adapt` was called.

    Example:
        >>> import numpy as np
        >>> from tfmtl.data.input_spec import InputSpec
        >>> embedding = FeatureEmbedding(
        ...     [InputSpec("user_id", "categorical", "user", 3, 1),
        ...      InputSpec("item_id", "categorical", "item", 4, 1)], dim=8)
        >>> embedding.build(None)
        >>> bottom = InteractionBottom(embedding, InteractionPropagation(8, 3, 4))
        >>> edges = Edges(np.array([1, 2], np.int32), np.array([1, 2], np.int32))
        >>> states = bottom.compute_node_states({"item_user": edges, "user_item": edges})
        >>> row = {"user_id": tf.constant([1]), "item_id": tf.constant([2])}
        >>> {key: state.shape.as_list() for key, state in bottom(states(row)).items()}
        {'interaction/user': [1, 8], 'interaction/item': [1, 8]}
    """

    def __init__(
        self, embedding: FeatureEmbedding, propagation: InteractionPropagation, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.embedding = embedding
        self.propagation = propagation

    @property
    def network(self) -> InteractionPropagation:
        """The propagation."""
        return self.propagation

    def num_nodes(self, side: Side) -> int:
        """Number N of users or items."""
        return {"user": self.propagation.num_users, "item": self.propagation.num_items}[side]

    def initial_states(self, side: Side, ids: tf.Tensor) -> tf.Tensor:
        """e_u or e_i, `float [N, d]`, of nodes `ids` `int32 [N]`."""
        return self.embedding.embed(self.embedding.pack({_IDS[side]: ids}, side), side)

    def adapt(self, bundle: GraphBundle) -> None:
        """Stores the degrees of the whole graph, without which samples cannot be propagated over.

        Args:
            bundle: The graph that training samples come from.
        """
        self.propagation.adapt(
            {name: Edges.from_csr(bundle.edge_sets[name]) for name in ("item_user", "user_item")}
        )

    def call(self, features: Mapping[str, Any], training: bool | None = None) -> dict:
        """States `[B, d]` of the rows' users and items."""
        if "graph" in features and "states" not in features:
            tf.debugging.assert_equal(
                self.propagation.is_adapted,
                True,
                "the degrees of the whole graph are not known: call adapt_to_graph(bundle) of the "
                "model before training it",
            )
        return super().call(features, training=training)
