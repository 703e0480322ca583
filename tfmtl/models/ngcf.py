"""NGCF: embeddings of ids, propagated with matrices and products over the interaction graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl.data.input_spec import InputSpec
from tfmtl.models.graph_collaborative_filtering import GraphCollaborativeFiltering
from tfmtl.models.multi_task_model import Weighting
from tfmtl.schema import Task


class NGCF(GraphCollaborativeFiltering):
    """Neural graph collaborative filtering: states of all hops, side by side, and their product.

        h_u^{l+1} = LeakyReLU(W_1 h_u^l + sum_{i in N(u)} p_ui (W_1 h_i^l + W_2 (h_i^l * h_u^l)))
        p_ui = 1 / sqrt(d_u d_i)        h = [h^0 || ... || h^L]        o^k = a_k h_u.h_i + b_k

    and the same with users and items exchanged; * is by element, and every l has a W_1 and a W_2
    of its own. h^0 are embeddings of user and item ids. The degrees d of the interaction graph must
    have been stored with `adapt_to_graph` before the first training step. See
    `InteractionPropagation` for what training on samples means.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits; all but the ids are passed over.
        node_features: Encoded features of all nodes, whose number is taken.
        embedding_dim: Width of the embeddings of ids and of every layer's states.
        channels: `("interaction",)`, the only graph there is to walk.
        num_layers: Hops L.
        max_neighbors: Most neighbours that a node of a sampled graph has; None takes any number.
            An experiment fills in its largest fan-out.
        dropout: Share of the messages along edges dropped in training, the paper's message dropout.
        l2: Penalty on the squares of W_1, W_2 and of scales a_k.
        l2_embedding: Penalty on the batch's embeddings of ids.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If an id is not among the inputs, other channels are asked for, or a batch has
            neither graph nor states.

    References:
        Wang et al., Neural Graph Collaborative Filtering (SIGIR 2019), equations 3 to 10; the
        single-task baseline of MoGENet's Table 2.

    Deviations:
        Scale a_k and bias b_k let several tasks share the inner product, and the loss is the
        masked cross entropy of each instead of BPR; one task gives the single-task model. Training
        samples neighbours. There is no node dropout. The released code differs from the paper: it
        activates both terms apart, adds biases, normalises states before it joins them, and drops
        activations; this is the paper's form.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> inputs = [InputSpec("user_id", "categorical", "user", 3, 1),
        ...           InputSpec("item_id", "categorical", "item", 4, 1)]
        >>> nodes = {"user": {"user_id": np.arange(3)}, "item": {"item_id": np.arange(4)}}
        >>> model = NGCF([Task(name="click")], inputs, node_features=nodes)
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
        l2_embedding: float = 1e-5,
        weighting: Weighting = "static",
        **kwargs: Any,
    ):
        super().__init__(
            tasks,
            inputs,
            node_features=node_features,
            propagation={
                "num_layers": num_layers,
                "update": "bi_interaction",
                "readout": "concat",
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
