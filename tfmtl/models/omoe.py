"""OMoE: shared experts behind one gate, a tower per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.layers.experts import Experts
from tfmtl.layers.gate import Gate
from tfmtl.layers.mix_experts import mix_experts
from tfmtl.layers.tower import Tower
from tfmtl.models.multi_task_model import MultiTaskModel, Weighting
from tfmtl.models.routing_options import ExpertUse, routing_options
from tfmtl.schema import Task


class OMoE(MultiTaskModel):
    """h = sum_n g(x)_n f^n(x); o^k = tower^k(h).

    One gate serves all tasks: they differ by their towers alone.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings.
        num_experts: Number of experts f^n.
        expert_units: Widths of an expert.
        gate_units: Hidden widths of the gate; empty gives the paper's linear gate.
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
        ValueError: If `experts` is unknown, or routed with `k` out of range.

    References:
        The one-gate model that Ma et al., Modeling Task Relationships in Multi-task Learning with
        Multi-gate Mixture-of-Experts (KDD 2018), compare theirs with.

    Deviations:
        Routed experts are a form of our own.

    Example:
        >>> import tensorflow as tf
        >>> age = InputSpec("age", "categorical", side="context", vocabulary_size=8, width=1)
        >>> model = OMoE([Task(name="click")], [age], num_experts=2)
        >>> model({"age": tf.constant([1, 2])})["click"].shape
        TensorShape([2])
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        embedding_dim: int = 16,
        num_experts: int = 4,
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
        routing = routing_options(
            experts, k=k, balance_weight=balance_weight, z_weight=z_weight, num_experts=num_experts
        )
        self.experts = Experts(num_experts, expert_units, dropout=dropout, l2=l2, name="experts")
        self.gate = Gate(num_experts, units=gate_units, l2=l2, name="gate", **routing)
        self.towers = {
            name: Tower(tower_units, dropout=dropout, l2=l2, name=f"{name}_tower")
            for name in self.task_names
        }

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        row = self.row_input(features)
        [(_, mixed)] = mix_experts(self, self.experts, row, [self.gate], training=training)
        return {name: self.towers[name](mixed, training=training) for name in self.task_names}
