"""MacGNN: the complete neighbourhood of a pair as histograms over macro nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.graph.macro_graph import MacroGraph
from tfmtl.layers.macro_aggregator import MacroAttention
from tfmtl.layers.macro_graph_bottom import MacroGraphBottom
from tfmtl.layers.macro_micro_fusion import MacroMicroFusion
from tfmtl.layers.macro_store import MacroStore
from tfmtl.layers.tower import Tower
from tfmtl.models.multi_task_model import MultiTaskModel, Weighting
from tfmtl.schema import ITEM_ID, USER_ID, Task


class MacGNN(MultiTaskModel):
    """A macro graph neural network per task, which share nothing.

        m = [ e_u || u1 || u2 || e_i || i1 || i2 ]           (macro graph expert, 10 d)
        u_rec = sum_l (x_l W_V), x_l the latest items of u; i_rec alike
        y = sigmoid(w^T Dice(W_2 Dice(W_1 [ m || u_rec || i_rec || x ])))

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits; may be empty, as in the paper, where ids are all.
        macro_graph: The macro graph; for the paper's, `macro: {scores: count, activity: value,
            user_threshold: 0, item_threshold: 0}` with the items' category as `item_groups`.
        embedding_dim: Width of feature embeddings.
        dim: Width d of the embeddings of users, items and macro nodes.
        tau: Temperature of the macro weights.
        attention: `neighbor`, as the paper intends, or `released`, as its code computes.
        mask_padding: Whether macro node 0 is left out; the released code keeps it.
        fusion_units: Width of the first dense layer.
        tower_units: Width of the second.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared dense kernels.
        l2_embedding: Penalty on the batch's embeddings.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    References:
        Chen et al., Macro Graph Neural Networks for Online Billion-Scale Recommender Systems (WWW
        2024).

    Deviations:
        The paper has one task and its graph; here every task has a network of its own, and all
        read the macro graph of all behaviours. The released attention is a softmax over an axis of
        size 1; `neighbor` takes it over the neighbours. `Dice` has moving statistics. Features x
        are read where there are any.

    Example:
        >>> import numpy as np
        >>> from tfmtl.graph import MacroConfig, interaction_stores, macro_graph_of_stores
        >>> stores = interaction_stores(
        ...     np.array([1, 2]), np.array([1, 2]), np.array([1, 1], np.uint8), 3, 3)
        >>> scores = np.array([0, 1], np.float32)
        >>> graph = macro_graph_of_stores(stores, scores, MacroConfig(user_nodes=1, item_nodes=1))
        >>> model = MacGNN([Task(name="click")], [], macro_graph=graph)
        >>> ids = tf.constant([1, 2])
        >>> model({"user_id": ids, "item_id": ids})["click"].shape
        TensorShape([2])
    """

    needs_macro_graph = True

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        macro_graph: MacroGraph,
        embedding_dim: int = 16,
        dim: int = 10,
        tau: float = 1.3,
        attention: MacroAttention = "neighbor",
        mask_padding: bool = True,
        fusion_units: int = 200,
        tower_units: int = 80,
        dropout: float = 0.0,
        l2: float = 0.0,
        l2_embedding: float = 0.0,
        weighting: Weighting = "static",
        **kwargs: Any,
    ):
        super().__init__(
            tasks,
            inputs,
            embedding_dim=embedding_dim,
            l2_embedding=l2_embedding,
            weighting=weighting,
            **kwargs,
        )
        self.macro_store = MacroStore(macro_graph)
        self.macro_graph_bottom = MacroGraphBottom(
            self.task_names,
            num_users=macro_graph.num_users,
            num_items=macro_graph.num_items,
            num_user_nodes=macro_graph.num_user_nodes,
            num_item_nodes=macro_graph.num_item_nodes,
            dim=dim,
            tau=tau,
            attention=attention,
            mask_padding=mask_padding,
            gated=False,
            l2=l2,
            l2_embedding=l2_embedding,
            name="macro_graph_bottom",
        )
        self.dense = {
            name: [
                MacroMicroFusion(units, dropout=dropout, l2=l2, name=f"{name}_dense_{number}")
                for number, units in enumerate((fusion_units, tower_units))
            ]
            for name in self.task_names
        }
        self.towers = {name: Tower(l2=l2, name=f"{name}_tower") for name in self.task_names}

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        rows = self.macro_store(features)
        bottom = self.macro_graph_bottom
        experts = bottom(features[USER_ID], features[ITEM_ID], rows)
        users = bottom.look_up("user", features[USER_ID])
        items = bottom.look_up("item", features[ITEM_ID])
        recent_users = bottom.look_up("user", rows.recent_users)
        recent_items = bottom.look_up("item", rows.recent_items)
        shared = [self.feature_input(features)] if self.embedding.inputs else []
        logits = {}
        for name in self.task_names:
            expert = bottom.experts[name]
            parts = [
                experts[name],
                _latest(expert.item_aggregator, recent_items[name], rows.recent_items, items[name]),
                _latest(expert.user_aggregator, recent_users[name], rows.recent_users, users[name]),
                *shared,
            ]
            state = tf.concat([tf.cast(part, self.compute_dtype) for part in parts], axis=-1)
            for dense in self.dense[name]:
                state = dense(state, training=training)
            logits[name] = self.towers[name](state)
        return logits


def _latest(
    aggregator: Any, vectors: tf.Tensor, neighbors: tf.Tensor, target: tf.Tensor
) -> tf.Tensor:
    """Sum of the projected latest neighbours, each of weight 1."""
    present = neighbors > 0
    return aggregator(vectors, target, tf.cast(present, tf.float32), mask=present)
