"""LightGCN: embeddings of ids, averaged over the interaction graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl.data.input_spec import InputSpec
from tfmtl.models.graph_collaborative_filtering import GraphCollaborativeFiltering
from tfmtl.models.multi_task_model import Weighting
from tfmtl.schema import Task


class LightGCN(GraphCollaborativeFiltering):
    """h^{l+1} = D^{-1/2} A D^{-1/2} h^l; h = mean_l h^l; o^k = a_k h_u.h_i + b_k.

    h^0 are embeddings of user and item ids, A is the interaction graph and D its degrees, which
    `adapt_to_graph` must have stored before the first training step. There is no matrix and no
    nonlinearity. See `InteractionPropagation` for what training on samples means.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits; all but the ids are passed over.
        node_features: Encoded features of all nodes, whose number is taken.
        embedding_dim: Width of the embeddings of ids.
        channels: `("interaction",)`, the only graph there is to walk.
        num_layers: Hops L.
        max_neighbors: Most neighbours that a node of a sampled graph has; None takes any number.
            An experiment fills in its largest fan-out.
        dropout: Share of the messages along edges dropped in training.
        l2: Penalty on the squared scales a_k.
        l2_embedding: Penalty on the batch's embeddings of ids.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If an id is not among the inputs, other channels are asked for, or a batch has
            neither graph nor states.

    References:
        He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation
        (SIGIR 2020), equations 3 to 5.

    Deviations:
        Scale a_k and bias b_k let several tasks share the inner product, and the loss is the
        masked cross entropy of each instead of BPR. Training samples neighbours. Two layers by
        default, as many as an experiment samples hops; the paper's best are two to four.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> inputs = [InputSpec("user_id", "categorical", "user", 3, 1),
        ...           InputSpec("item_id", "categorical", "item", 4, 1)]
        >>> nodes = {"user": {"user_id": np.arange(3)}, "item": {"item_id": np.arange(4)}}
        >>> model = LightGCN([Task(name="click")], inputs, node_features=nodes)
        >>> from tfmtl.layers import Edges
        >>> edges = Edges(np.array([1, 2], np.int32), np.array([1, 2], np.int32))
        >>> states = model.compute_node_states({"item_user": edges, "user_item": edges})
        >>> row = {"user_id": tf.constant([1]), "item_id": tf.constant([2])}
        >>> model(states(row))["click"].shape
        TensorShape([1])
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        node_features: Mapping[str, Mapping[str, np.ndarray]],
        embedding_dim: int = 64,
        channels: Sequence[str] = ("interaction",),
        num_layers: int = 2,
        max_neighbors: int | None = None,
        dropout: float = 0.0,
        l2: float = 0.0,
        l2_embedding: float = 1e-4,
        weighting: Weighting = "static",
        **kwargs: Any,
    ):
        super().__init__(
            tasks,
            inputs,
            node_features=node_features,
            propagation={
                "num_layers": num_layers,
                "max_neighbors": max_neighbors,
                "dropout": dropout,
            },
            channels=channels,
            embedding_dim=embedding_dim,
            l2=l2,
            l2_embedding=l2_embedding,
            weighting=weighting,
            **kwargs,
        )
