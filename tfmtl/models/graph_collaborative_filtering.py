"""What NGCF, LightGCN and POGCN share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.graph.graph_bundle import GraphBundle
from tfmtl.layers.interaction_bottom import InteractionBottom
from tfmtl.layers.interaction_propagation import InteractionPropagation
from tfmtl.layers.node_state_bottom import GRAPH_SIDES
from tfmtl.layers.scaled_score import ScaledScore
from tfmtl.models.multi_task_model import MultiTaskModel, Weighting
from tfmtl.schema import ITEM_ID, USER_ID, Task


class GraphCollaborativeFiltering(MultiTaskModel):
    """o^k = a_k h_u.h_i + b_k over states that embeddings of ids are propagated to.

    The models read ids alone and walk the interaction graph alone. Before the first training step
    `adapt_to_graph` must have stored the degrees of the graph that samples come from.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits; all but the ids are passed over.
        node_features: Encoded features of all nodes, whose number is taken.
        propagation: Options of `InteractionPropagation`.
        channels: `("interaction",)`.
        embedding_dim: Width of the embeddings of ids.
        l2: Penalty on the squares of matrices and of scales a_k.
        l2_embedding: Penalty on the batch's embeddings of ids.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If an id is not among the inputs, or other channels are asked for.

    Example:
        >>> GraphCollaborativeFiltering.needs_graph
        True
    """

    needs_graph = True
    allows_time_limit = False

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        node_features: Mapping[str, Mapping[str, np.ndarray]],
        propagation: Mapping[str, Any],
        channels: Sequence[str],
        embedding_dim: int,
        l2: float,
        l2_embedding: float,
        weighting: Weighting,
        **kwargs: Any,
    ):
        name = type(self).__name__
        if tuple(channels) != ("interaction",):
            raise ValueError(
                f"{name} walks the interaction graph alone: expected channels ['interaction']; "
                f"received {list(channels)}"
            )
        ids = [spec for spec in inputs if spec.name in (USER_ID, ITEM_ID)]
        if len(ids) < 2:
            raise ValueError(
                f"{name} reads ids alone: expected the inputs {[USER_ID, ITEM_ID]}; received "
                f"{[spec.name for spec in inputs]}: leave the ids out of exclude_inputs"
            )
        super().__init__(
            tasks,
            ids,
            embedding_dim=embedding_dim,
            l2_embedding=l2_embedding,
            weighting=weighting,
            **kwargs,
        )
        network = InteractionPropagation(
            embedding_dim,
            len(node_features["user"][USER_ID]),
            len(node_features["item"][ITEM_ID]),
            l2=l2,
            **propagation,
            name="propagation",
        )
        self.interaction_bottom = InteractionBottom(self.embedding, network, name="bottom")
        self.graph_bottom = self.interaction_bottom
        self.towers = {task: ScaledScore(l2=l2, name=f"{task}_tower") for task in self.task_names}

    def adapt_to_graph(self, bundle: GraphBundle) -> None:
        """Stores the degrees of the whole graph.

        Args:
            bundle: The graph that training samples come from.
        """
        self.interaction_bottom.adapt(bundle)

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        states = self.interaction_bottom(features, training=training)
        if self.embedding.l2:
            for side in GRAPH_SIDES:
                # For the penalty: it is on the embeddings of the rows, not of all sampled nodes.
                self.embedding(features, side=side)
        users, items = (tf.cast(states[f"interaction/{side}"], tf.float32) for side in GRAPH_SIDES)
        score = tf.reduce_sum(users * items, axis=-1)
        return {name: self.towers[name](score) for name in self.task_names}
