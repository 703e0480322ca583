"""CGC: private and shared experts, a gate over both and a tower per task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmtl.data.input_spec import InputSpec
from tfmtl.models.multi_task_model import Weighting
from tfmtl.models.ple import PLE
from tfmtl.models.routing_options import ExpertUse
from tfmtl.schema import Task


class CGC(PLE):
    """Customized gate control, PLE of one layer: o^k = tower^k(g^k(x)^T [f^k(x) || f^s(x)]).

    f^k are the private experts of task k, f^s the shared ones, g^k a softmax over both.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings.
        num_specific_experts: Number of private experts of a task.
        num_shared_experts: Number of shared experts.
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
        ValueError: If there is no private or no shared expert, `experts` is unknown, or they are
            routed with `k` out of range.

    References:
        Tang et al., Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for
        Personalized Recommendations (RecSys 2020).

    Deviations:
        Routed experts are a form of our own.

    Example:
        >>> import tensorflow as tf
        >>> age = InputSpec("age", "categorical", side="context", vocabulary_size=8, width=1)
        >>> model = CGC([Task(name="click"), Task(name="like")], [age])
        >>> model({"age": tf.constant([1, 2])})["like"].shape
        TensorShape([2])
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        embedding_dim: int = 16,
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
            num_layers=1,
            num_specific_experts=num_specific_experts,
            num_shared_experts=num_shared_experts,
            expert_units=expert_units,
            gate_units=gate_units,
            experts=experts,
            k=k,
            balance_weight=balance_weight,
            z_weight=z_weight,
            tower_units=tower_units,
            dropout=dropout,
            l2=l2,
            l2_embedding=l2_embedding,
            weighting=weighting,
            **kwargs,
        )
