"""MGOE: macro graph experts of all tasks, and towers in the order of behaviours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.data.task_chains import task_chains
from tfmtl.graph.macro_graph import MacroGraph
from tfmtl.layers.macro_aggregator import MacroAttention
from tfmtl.layers.macro_graph_bottom import MacroEmbeddings
from tfmtl.layers.macro_micro_fusion import MacroMicroFusion
from tfmtl.layers.macro_prediction_tower import MacroPredictionTower
from tfmtl.models.multi_task_model import MultiTaskModel, Weighting
from tfmtl.schema import Task


class MGOE(MultiTaskModel):
    """Macro graph of experts.

        m^t = MacroGraphExpert^t(u, i)                       (a macro graph expert per task)
        z^t = sum_s gamma^t_s m^s                            (macro graph bottom)
        f^t = Dice(W_f [ z^t || r || x ] + b_f)              (macro and micro fusion)
        y^t = sigmoid(MacroPredictionTower^t(f^t, P^t, h^{t-1}))

    r are the latest neighbours of user and item, x the row's features, P^t what user and item
    prefer among the macro nodes by task t's behaviour. Towers stand in the order of behaviours,
    weakest first, and each passes its state h to the next. The macro neighbourhoods are rows of
    tables in the model: a prediction costs the same however large the graph is.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits; may be empty, as in the paper, where ids are all.
        macro_graph: The macro graph.
        embedding_dim: Width of feature embeddings.
        dim: Width d of the embeddings of users, items and macro nodes.
        tau: Temperature of the macro weights.
        preference_tau: Temperature of the preferences P^t.
        attention: `neighbor`, as the method intends, or `released`, see `MacroAggregator`.
        mask_padding: Whether macro node 0 is left out of the macro weights.
        embeddings: `per_task` or `shared_adapter`, see `MacroGraphBottom`.
        stop_gradient_across_tasks: See `MacroGraphBottom`.
        macro_bottom: Whether experts read macro neighbourhoods; without, embeddings alone.
        macro_tower: Whether towers read P^t.
        hit: Whether they also read how much of P^t is in the macro node of the row's item.
        micro: Whether latest neighbours are read.
        transfer: Whether towers pass their states on.
        fusion_units: Width of f.
        tower_units: Width of h.
        dropout: Share of activations of f and h that is dropped in training.
        l2: Penalty on the squared dense kernels.
        l2_embedding: Penalty on the batch's embeddings.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    References:
        Macro Graph of Experts for Billion-Scale Multi-Task Recommendation (KDD 2026, arXiv
        2506.10520), Figure 2.

    Deviations:
        Figure 2 draws the architecture; the forms of gates, fusion, towers and of the latest
        neighbours are those of the layers, which say so. The paper reads ids alone; features x are
        fused where there are any.

    Example:
        >>> import numpy as np
        >>> from tfmtl.graph import MacroConfig, interaction_stores, macro_graph_of_stores
        >>> stores = interaction_stores(
        ...     np.array([1, 2]), np.array([1, 2]), np.array([1, 3], np.uint8), 3, 3)
        >>> scores = np.array([0, 1, 2, 3], np.float32)
        >>> graph = macro_graph_of_stores(stores, scores, MacroConfig(user_nodes=1, item_nodes=1))
        >>> model = MGOE([Task(name="click"), Task(name="buy", order=1)], [], macro_graph=graph)
        >>> ids = tf.constant([1, 2])
        >>> model({"user_id": ids, "item_id": ids})["buy"].shape
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
        preference_tau: float = 1.0,
        attention: MacroAttention = "neighbor",
        mask_padding: bool = True,
        embeddings: MacroEmbeddings = "per_task",
        stop_gradient_across_tasks: bool = False,
        macro_bottom: bool = True,
        macro_tower: bool = True,
        hit: bool = True,
        micro: bool = True,
        transfer: bool = True,
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
            bottom={
                "macro": {
                    "dim": dim,
                    "tau": tau,
                    "attention": attention,
                    "mask_padding": mask_padding,
                    "neighborhoods": macro_bottom,
                    "micro": micro,
                    "stop_gradient_across_tasks": stop_gradient_across_tasks,
                    "embeddings": embeddings,
                    "l2": l2,
                    "l2_embedding": l2_embedding,
                }
            },
            macro_graph=macro_graph,
            **kwargs,
        )
        chains = task_chains(self.tasks)
        in_order = sorted(self.tasks, key=lambda task: (task.order, len(chains[task.name])))
        self.sequence = tuple(task.name for task in in_order)
        self.fusion = MacroMicroFusion(fusion_units, dropout=dropout, l2=l2, name="fusion")
        self.towers = {
            name: MacroPredictionTower(
                tower_units,
                node_dim=dim,
                tau=preference_tau,
                preferences=macro_tower,
                hit=macro_tower and hit,
                transfer=transfer and name != self.sequence[0],
                dropout=dropout,
                l2=l2,
                name=f"{name}_tower",
            )
            for name in self.sequence
        }

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        assert self.macro_bottom is not None
        states = self.macro_bottom(features)
        shared = [] if states.micro is None else [states.micro]
        if self.embedding.inputs:
            shared.append(self.feature_input(features))
        # Side by side, so that the one activation of all tasks has one set of statistics.
        rows = [
            tf.concat(
                [tf.cast(part, self.compute_dtype) for part in (states.by_task[name], *shared)], -1
            )
            for name in self.task_names
        ]
        fused = tf.unstack(self.fusion(tf.stack(rows, axis=1), training=training), axis=1)
        logits: dict[str, tf.Tensor] = {}
        previous = None
        for name in self.sequence:
            position = self.task_names.index(name)
            user_nodes, item_nodes = self.macro_bottom.graph_bottom.nodes_of(name)
            logits[name], previous = self.towers[name](
                fused[position],
                states.rows.user_preferences[:, position],
                states.rows.item_preferences[:, position],
                item_nodes,
                user_nodes,
                states.rows.item_group,
                previous=previous,
                training=training,
            )
        return {name: logits[name] for name in self.task_names}
