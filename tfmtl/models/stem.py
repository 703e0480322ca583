"""STEM: private and shared embeddings and experts, kept apart by stopped gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.layers.expert_groups import ExpertGroups
from tfmtl.layers.experts import Experts
from tfmtl.layers.feature_embedding import FeatureEmbedding
from tfmtl.layers.gate import Gate
from tfmtl.layers.report_routing import report_routing
from tfmtl.layers.tower import Tower
from tfmtl.layers.visit_experts import visit_experts
from tfmtl.models.multi_task_model import SIDES, MultiTaskModel, Weighting
from tfmtl.models.routing_options import ExpertUse, routing_options
from tfmtl.schema import Task


class STEM(MultiTaskModel):
    """Shared and task-specific embeddings under experts that all tasks read.

        x^k, x^s: the row in the table of task k and in the shared table
        f^j = experts of task j on x^j,  f^s = shared experts on x^s
        h^k = g^k(x^k + x^s)^T [sg(f^1) || ... || f^k || ... || sg(f^K) || f^s]
        o^k = tower^k(h^k)

    sg stops gradients: a task uses what the others know and teaches them nothing, so that a
    private table keeps its task's view of users and items.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings, in each of the K + 1 tables.
        num_specific_experts: Number of private experts of a task.
        num_shared_experts: Number of shared experts.
        expert_units: Widths of an expert.
        gate_units: Hidden widths of a gate; empty gives a linear gate.
        experts: `dense` evaluates all experts on every row; `routed` lets each gate choose `k` of
            them for a row, and evaluates no others.
        k: Experts that a gate chooses for a row, all where it sees fewer; for routed experts.
        balance_weight: Weight of the load balance loss of each gate, see `Gate`; for routed ones.
        z_weight: Weight of the loss on the size of each gate's logits; for routed experts.
        tower_units: Hidden widths of a tower.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared dense kernels.
        l2_embedding: Penalty on the batch's embeddings.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If there is no private or no shared expert, `experts` is unknown, or they are
            routed with `k` out of range.

    References:
        Su et al., STEM: Unleashing the Power of Embeddings for Multi-task Recommendation
        (AAAI 2024).

    Deviations:
        One layer, as in the authors' configurations, and therefore no gate of the shared path,
        which only a layer above would read. Numeric features and the graph states of a bottom are
        in no table: they are the same in all rows, and twice in the input of a gate. Defaults are
        those of the other models here; the authors' are experts [512, 512, 512], gates and towers
        [128, 64]. Routed experts are a form of our own.

    Example:
        >>> import tensorflow as tf
        >>> age = InputSpec("age", "categorical", side="context", vocabulary_size=8, width=1)
        >>> model = STEM([Task(name="click"), Task(name="like")], [age])
        >>> sorted(model.embeddings), model({"age": tf.constant([1, 2])})["like"].shape
        (['click', 'like'], TensorShape([2]))
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        embedding_dim: int = 16,
        num_specific_experts: int = 1,
        num_shared_experts: int = 1,
        expert_units: Sequence[int] = (64, 32),
        gate_units: Sequence[int] = (),
        experts: ExpertUse = "dense",
        k: int = 2,
        balance_weight: float = 1e-2,
        z_weight: float = 1e-3,
        tower_units: Sequence[int] = (32,),
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
        # The shared table is the common embedding, which a bottom's nodes read too.
        self.embeddings = {
            name: FeatureEmbedding(
                inputs, dim=embedding_dim, l2=l2_embedding, name=f"{name}_embedding"
            )
            for name in self.task_names
        }
        self.specific_experts = ExpertGroups(
            len(self.tasks),
            num_specific_experts,
            expert_units,
            dropout=dropout,
            l2=l2,
            name="specific_experts",
        )
        self.shared_experts = Experts(
            num_shared_experts, expert_units, dropout=dropout, l2=l2, name="shared_experts"
        )
        num_experts = len(self.tasks) * num_specific_experts + num_shared_experts
        routing = routing_options(
            experts, k=k, balance_weight=balance_weight, z_weight=z_weight, num_experts=num_experts
        )
        self.routed = bool(routing)
        self.gates = {
            name: Gate(num_experts, units=gate_units, l2=l2, name=f"{name}_gate", **routing)
            for name in self.task_names
        }
        self.towers = {
            name: Tower(tower_units, dropout=dropout, l2=l2, name=f"{name}_tower")
            for name in self.task_names
        }

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        states = self.bottom_input(features)
        shared_row = tf.concat([self.feature_input(features), *states], axis=-1)
        rows = []
        for embedding in self.embeddings.values():
            row = [embedding(features, side=side) for side in SIDES if embedding.width(side)]
            rows.append(tf.concat([*row, *states], axis=-1))
        if self.routed:
            mixtures = self._mixtures_of_chosen(rows, shared_row, training)
            return {
                name: self.towers[name](mixed, training=training)
                for name, mixed in zip(self.task_names, mixtures, strict=True)
            }
        specific = self.specific_experts(tf.stack(rows, axis=1), training=training)
        shared = self.shared_experts(shared_row, training=training)
        live = tf.unstack(specific, axis=1)
        stopped = tf.unstack(tf.stop_gradient(specific), axis=1)
        logits = {}
        for task, (name, row) in enumerate(zip(self.task_names, rows, strict=True)):
            experts = [*stopped[:task], live[task], *stopped[task + 1 :], shared]
            gate = tf.cast(self.gates[name](row + shared_row), shared.dtype)
            mixed = tf.einsum("bn,bnh->bh", gate, tf.concat(experts, axis=1))
            logits[name] = self.towers[name](mixed, training=training)
        return logits

    def _mixtures_of_chosen(
        self, rows: Sequence[tf.Tensor], shared_row: tf.Tensor, training: bool | None
    ) -> list[tf.Tensor]:
        """h^k of each task, of the experts that its gate chooses."""
        routings = [
            self.gates[name](row + shared_row)
            for name, row in zip(self.task_names, rows, strict=True)
        ]
        report_routing(self, routings)
        # Of each expert the number of the row that it reads: that of its task, or the shared one.
        sources = [
            *np.repeat(range(len(rows)), self.specific_experts.num_experts).tolist(),
            *[len(rows)] * self.shared_experts.num_experts,
        ]
        visited = visit_experts(
            [self.specific_experts, self.shared_experts],
            tf.stack([*rows, shared_row], axis=1),
            [routing.experts for routing in routings],
            sources=sources,
            training=training,
        )
        mixtures = []
        for task, (routing, experts) in enumerate(zip(routings, visited, strict=True)):
            taught = tf.constant([row in (task, len(rows)) for row in sources])
            live = tf.gather(taught, routing.experts)[..., tf.newaxis]
            experts = tf.where(live, experts, tf.stop_gradient(experts))
            weights = tf.cast(routing.weights, experts.dtype)
            mixtures.append(tf.einsum("bk,bkh->bh", weights, experts))
        return mixtures
