"""One level of a hierarchy of experts, of which each output sees some groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.expert_groups import ExpertGroups, Normalization
from tfmtl.layers.feature_gate import FeatureGate
from tfmtl.layers.gate import Gate
from tfmtl.layers.report_routing import report_routing
from tfmtl.layers.self_gate import SelfGate
from tfmtl.layers.visit_experts import visit_experts


@keras.utils.register_keras_serializable(package="tfmtl")
class ExpertLevel(keras.layers.Layer):
    """Groups of gated experts, and outputs that mix those they see.

        f^{g,n} = SiLU(norm(MLP^{g,n}(x^g * 2 sigmoid(x^g B^{g,n} A^{g,n}))))
        y^o = g^o(x^p)^T [f^g for the groups g that o sees] + s^o(x^p)^T f^p,  p the own group of o

    g^o is a softmax over the experts that the output sees, s^o a self-gate.

    With `k` each gate g^o chooses among the experts that it sees. The self-gate keeps all experts
    of its own group, so that those that the gate passes over learn; no others are evaluated.

    Shapes: B batch, D input width, G groups of E experts, O outputs, H width of an expert.

    Args:
        visible: For each output the numbers of the groups that it sees, its own group last.
            Groups are numbered from 0 to the highest number in it.
        num_experts: Number of experts E of a group.
        units: Widths of an expert.
        gate_units: Hidden widths of a gate g^o.
        rank: Rank of the feature gates.
        normalization: `batch` or `layer`, see `ExpertGroups`.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared kernels.
        k: Experts that a gate chooses for a row, see `Gate`; all if it sees fewer; None mixes all.
        balance_weight: Weight of the load balance loss of each gate, with `k`.
        z_weight: Weight of the loss on the size of each gate's logits, with `k`.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [B, G, D]`, or `float [B, D]` for one input that all groups read.
    Output shape: `float [B, O, H]`.

    Raises:
        ValueError: If an output sees no group, a group has no output that sees it, there are no
            experts, `k` is not positive, or with `k` the normalisation is `batch`, whose
            statistics need all rows.

    References:
        Wang et al., HoME: Hierarchy of Multi-Gate Experts (KDD 2025).

    Example:
        >>> import tensorflow as tf
        >>> ExpertLevel([[1, 0], [0, 1]], 2, [8])(tf.ones([5, 16])).shape
        TensorShape([5, 2, 8])
    """

    def __init__(
        self,
        visible: Sequence[Sequence[int]],
        num_experts: int,
        units: Sequence[int],
        *,
        gate_units: Sequence[int] = (),
        rank: int = 8,
        normalization: Normalization = "batch",
        dropout: float = 0.0,
        l2: float = 0.0,
        k: int | None = None,
        balance_weight: float = 1e-2,
        z_weight: float = 1e-3,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.visible = [[int(group) for group in groups] for groups in visible]
        seen = sorted({group for groups in self.visible for group in groups})
        if not all(self.visible) or not seen or seen != list(range(len(seen))):
            raise ValueError(
                "expected for each output the groups that it sees, each of the groups 0, 1, ... "
                f"seen by some output; received {self.visible}"
            )
        self.num_groups = len(seen)
        self.num_experts = int(num_experts)
        if self.num_experts < 1:
            raise ValueError(f"expected at least one expert of a group; received {num_experts}")
        self.units = [int(width) for width in units]
        self.gate_units = [int(width) for width in gate_units]
        self.rank = int(rank)
        self.normalization = normalization
        self.dropout = float(dropout)
        self.l2 = float(l2)
        self.k = None if k is None else int(k)
        self.balance_weight = float(balance_weight)
        self.z_weight = float(z_weight)
        if self.k is not None and normalization == "batch":
            raise ValueError(
                "expected normalization 'layer' where gates choose experts; received 'batch', "
                "whose statistics need all rows: take normalization='layer', or mix all experts"
            )

    def build(self, input_shape: Any) -> None:
        """Creates experts and their feature gates for inputs of `input_shape`, and the gates."""
        shape = tf.TensorShape(input_shape)
        options: dict[str, Any] = {"l2": self.l2, "dtype": self.dtype_policy}
        num_experts = self.num_groups * self.num_experts
        self.feature_gate = FeatureGate(num_experts, rank=self.rank, name="feature_gate", **options)
        # To the bank each expert is a group: it reads a view of its own.
        self.experts = ExpertGroups(
            num_experts,
            1,
            self.units,
            activation="silu",
            normalization=self.normalization,
            dropout=self.dropout,
            name="experts",
            **options,
        )
        names = [
            [f"group_{group}_{number}" for number in range(self.num_experts)]
            for group in range(self.num_groups)
        ]
        routing: dict[str, Any] = {
            "k": self.k,
            "balance_weight": self.balance_weight,
            "z_weight": self.z_weight,
        }
        self.gates = [
            Gate(
                len(groups) * self.num_experts,
                units=self.gate_units,
                expert_names=[name for group in groups for name in names[group]],
                name=f"gate_{number}",
                **routing,
                **options,
            )
            for number, groups in enumerate(self.visible)
        ]
        self.self_gates = [
            SelfGate(
                self.num_experts,
                expert_names=names[groups[-1]],
                name=f"self_gate_{number}",
                **options,
            )
            for number, groups in enumerate(self.visible)
        ]
        row = tf.TensorShape([None, shape[-1]])
        views = tf.TensorShape([None, num_experts, shape[-1]])
        sublayers: list[tuple[Any, tf.TensorShape]] = [
            (self.feature_gate, views),
            (self.experts, views),
            *((layer, row) for layer in (*self.gates, *self.self_gates)),
        ]
        for layer, layer_shape in sublayers:
            with tf.name_scope(layer.name):
                layer.build(layer_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps `[B, G, D]` or `[B, D]` to `[B, O, H]`."""
        if inputs.shape.rank == 2:
            rows, views = [inputs] * self.num_groups, inputs
        else:
            rows = tf.unstack(inputs, axis=1)
            views = tf.repeat(inputs, self.num_experts, axis=1)
        if self.k is not None:
            return self._call_chosen(rows, self.feature_gate(views), training)
        experts = self.experts(self.feature_gate(views), training=training)
        shape = [-1, self.num_groups, self.num_experts, self.units[-1]]
        groups = tf.unstack(tf.reshape(experts, shape), axis=1)
        outputs = []
        for gate, self_gate, seen in zip(self.gates, self.self_gates, self.visible, strict=True):
            row, own = rows[seen[-1]], groups[seen[-1]]
            weights = tf.cast(gate(row), own.dtype)
            mixed = tf.einsum("bn,bnh->bh", weights, tf.concat([groups[g] for g in seen], axis=1))
            outputs.append(mixed + self_gate(row, own))
        return tf.stack(outputs, axis=1)

    def _call_chosen(
        self, rows: Sequence[tf.Tensor], views: tf.Tensor, training: bool | None
    ) -> tf.Tensor:
        """The same of the experts that the gates choose."""
        rows = [rows[groups[-1]] for groups in self.visible]
        routings = [gate(row) for gate, row in zip(self.gates, rows, strict=True)]
        report_routing(self, routings)
        numbers = np.arange(self.num_groups * self.num_experts, dtype=np.int32)
        groups = numbers.reshape(self.num_groups, self.num_experts)
        visits = []
        for routing, seen in zip(routings, self.visible, strict=True):
            chosen = tf.gather(tf.constant(groups[seen].ravel()), routing.experts)
            own = tf.tile(groups[seen[-1:]], [tf.shape(chosen)[0], 1])
            visits.append(tf.concat([chosen, own], axis=1))
        visited = visit_experts(
            [self.experts], views, visits, sources=numbers.tolist(), training=training
        )
        outputs = []
        for self_gate, row, routing, experts in zip(
            self.self_gates, rows, routings, visited, strict=True
        ):
            chosen, own = tf.split(experts, [routing.experts.shape[-1], self.num_experts], axis=1)
            weights = tf.cast(routing.weights, experts.dtype)
            outputs.append(tf.einsum("bk,bkh->bh", weights, chosen) + self_gate(row, own))
        return tf.stack(outputs, axis=1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "visible": self.visible,
            "num_experts": self.num_experts,
            "units": self.units,
            "gate_units": self.gate_units,
            "rank": self.rank,
            "normalization": self.normalization,
            "dropout": self.dropout,
            "l2": self.l2,
            "k": self.k,
            "balance_weight": self.balance_weight,
            "z_weight": self.z_weight,
        }
