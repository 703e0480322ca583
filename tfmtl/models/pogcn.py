"""POGCN: LightGCN over edges that weigh by the rank of their behaviours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmtl.data.input_spec import InputSpec
from tfmtl.graph.behavior_ranks import behavior_ranks
from tfmtl.models.graph_collaborative_filtering import GraphCollaborativeFiltering
from tfmtl.models.multi_task_model import Weighting
from tfmtl.schema import Task


class POGCN(GraphCollaborativeFiltering):
    """h^{l+1} = D^{-1/2} A D^{-1/2} h^l; h = mean_l h^l; o^k = a_k h_u.h_i + b_k.

        A_ui = rank(C_ui)^level        D: row sums of A

    C_ui are the behaviours on an edge. `behavior_ranks` ranks them: a binary code in which the
    strongest behaviour is the highest bit, by `Task.order`, where tied behaviours count alike. An
    edge without behaviours, of a pair that was only shown, weighs 0. Else it is `LightGCN`, which
    level 0 makes of it.

    Args:
        tasks: The schema's tasks, whose behaviours are the bits on interaction edges.
        inputs: What the encoder emits; all but the ids are passed over.
        node_features: Encoded features of all nodes, whose number is taken.
        embedding_dim: Width of the embeddings of ids.
        channels: `("interaction",)`, the only graph there is to walk.
        num_layers: Hops L.
        level: Exponent of a rank.
        max_neighbors: Most neighbours that a node of a sampled graph has; None takes any number.
            An experiment fills in its largest fan-out.
        dropout: Share of the messages along edges dropped in training.
        l2: Penalty on the squared scales a_k.
        l2_embedding: Penalty on the batch's embeddings of ids.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If an id is not among the inputs, other channels are asked for, a task's parent
            is not among the tasks, the level is negative, or a batch has neither graph nor states.

    References:
        Zhang et al., Multi-Behavior Collaborative Filtering with Partial Order Graph Convolutional
        Networks (KDD 2024).

    Deviations:
        Those of `LightGCN`: the paper trains on pairs that the partial order ranks. Combinations
        of tied behaviours have equal weight; the released code numbers them as it meets them, and
        of tied levels gives the smaller combination the larger weight.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> inputs = [InputSpec("user_id", "categorical", "user", 3, 1),
        ...           InputSpec("item_id", "categorical", "item", 4, 1)]
        >>> nodes = {"user": {"user_id": np.arange(3)}, "item": {"item_id": np.arange(4)}}
        >>> tasks = [Task(name="click"), Task(name="buy", order=1)]
        >>> model = POGCN(tasks, inputs, node_features=nodes)
        >>> from tfmtl.layers import Edges
        >>> one, both = np.array([1, 2], np.int32), np.array([1, 3], np.int32)
        >>> edges = Edges(one, one, behavior=both)
        >>> states = model.compute_node_states({"item_user": edges, "user_item": edges})
        >>> row = {"user_id": tf.constant([1]), "item_id": tf.constant([2])}
        >>> model(states(row))["buy"].shape
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
        level: float = 1.0,
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
                "behavior_ranks": behavior_ranks(tasks),
                "level": level,
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
