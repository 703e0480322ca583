"""PLE: layers of private and shared experts, a tower per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.layers.extraction import Extraction
from tfmtl.layers.tower import Tower
from tfmtl.models.multi_task_model import MultiTaskModel, Weighting
from tfmtl.models.routing_options import ExpertUse, routing_options
from tfmtl.schema import Task


class PLE(MultiTaskModel):
    """Progressive layered extraction.

        x^{k,0} = x^{s,0} = x
        x^{k,l} = g^{k,l}(x^{k,l-1})^T [f^{k,l}(x^{k,l-1}) || f^{s,l}(x^{s,l-1})]
        x^{s,l} = g^{s,l}(x^{s,l-1})^T [f^{1,l} || ... || f^{K,l} || f^{s,l}]
        o^k = tower^k(x^{k,L})

    f^{k,l} are the private experts of task k in layer l, f^{s,l} the shared ones; the last layer
    has no shared output x^{s,L}.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings.
        num_layers: Number of extraction layers L.
        num_specific_experts: Number of private experts of a task, in each layer.
        num_shared_experts: Number of shared experts, in each layer.
        expert_units: Widths of an expert.
        gate_units: Hidden widths of a gate; empty gives the paper's linear gate.
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
        ValueError: If there is no layer, a layer has no private or no shared expert, `experts` is
            unknown, or they are routed with `k` out of range.

    References:
        Tang et al., Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for
        Personalized Recommendations (RecSys 2020).

    Deviations:
        Routed experts are a form of our own.

    Example:
        >>> import tensorflow as tf
        >>> age = InputSpec("age", "categorical", side="context", vocabulary_size=8, width=1)
        >>> model = PLE([Task(name="click"), Task(name="like")], [age], num_layers=3)
        >>> model({"age": tf.constant([1, 2])})["like"].shape
        TensorShape([2])
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        embedding_dim: int = 16,
        num_layers: int = 2,
        num_specific_experts: int = 2,
        num_shared_experts: int = 2,
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
        if num_layers < 1:
            raise ValueError(f"expected at least one extraction layer; received {num_layers}")
        num_experts = num_specific_experts + num_shared_experts
        if num_layers > 1:
            # The gate of the shared path sees the private experts of all tasks.
            num_experts += (len(self.tasks) - 1) * num_specific_experts
        routing = routing_options(
            experts, k=k, balance_weight=balance_weight, z_weight=z_weight, num_experts=num_experts
        )
        self.extractions = [
            Extraction(
                len(self.tasks),
                num_specific_experts,
                num_shared_experts,
                expert_units,
                gate_units=gate_units,
                shared_output=number < num_layers - 1,
                dropout=dropout,
                l2=l2,
                name=f"extraction_{number}",
                **routing,
            )
            for number in range(num_layers)
        ]
        self.towers = {
            name: Tower(tower_units, dropout=dropout, l2=l2, name=f"{name}_tower")
            for name in self.task_names
        }

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        shared = tasks = self.row_input(features)
        for extraction in self.extractions[:-1]:
            tasks, shared = extraction(tasks, shared, training=training)
        tasks = tf.unstack(self.extractions[-1](tasks, shared, training=training), axis=1)
        return {
            name: self.towers[name](task, training=training)
            for name, task in zip(self.task_names, tasks, strict=True)
        }
