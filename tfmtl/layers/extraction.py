"""Private and shared experts behind one gate per task, and a gate of the shared path."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.expert_groups import ExpertGroups
from tfmtl.layers.experts import Experts
from tfmtl.layers.gate import Gate
from tfmtl.layers.report_routing import report_routing
from tfmtl.layers.visit_experts import visit_experts


@keras.utils.register_keras_serializable(package="tfmtl")
class Extraction(keras.layers.Layer):
    """One layer of customized gate control.

        f^t_n = MLP^t_n(x^t),  n = 1..S        f^s_n = MLP^s_n(x^s),  n = 1..C
        y^t = g^t(x^t)^T [f^t || f^s]          g^t: softmax over the S + C experts that t sees
        y^s = g^s(x^s)^T [f^1 || ... || f^T || f^s]          g^s: softmax over all T S + C

    Shapes: B batch, D input width, T tasks, S private experts of a task, C shared experts, H width
    of an expert. Tasks and experts are known by their numbers alone.

    With `k` each gate chooses among the experts that it sees, and only the chosen are evaluated.

    Args:
        num_tasks: Number of tasks T.
        num_specific_experts: Number of private experts S of a task.
        num_shared_experts: Number of shared experts C.
        units: Widths of an expert.
        gate_units: Hidden widths of a gate.
        shared_output: Whether there is a gate g^s for a layer above; the last layer has none.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared kernels.
        k: Experts that a gate chooses for a row, see `Gate`; all if it sees fewer; None mixes all.
        balance_weight: Weight of the load balance loss of each gate, with `k`.
        z_weight: Weight of the loss on the size of each gate's logits, with `k`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: the tasks' inputs x^t, `float [B, T, D]` or `float [B, D]` where they are the
    same, and the shared input x^s, `float [B, D]`.
    Returns y^t `float [B, T, H]`; with `shared_output` a pair of it and y^s `float [B, H]`.

    Raises:
        ValueError: If a number, a width or `k` is not positive.

    References:
        Tang et al., Progressive Layered Extraction (PLE) (RecSys 2020).

    Example:
        >>> import tensorflow as tf
        >>> row = tf.ones([5, 16])
        >>> tasks, shared = Extraction(3, 2, 1, [8])(row, row)
        >>> tasks.shape, shared.shape
        (TensorShape([5, 3, 8]), TensorShape([5, 8]))
    """

    def __init__(
        self,
        num_tasks: int,
        num_specific_experts: int,
        num_shared_experts: int,
        units: Sequence[int],
        *,
        gate_units: Sequence[int] = (),
        shared_output: bool = True,
        dropout: float = 0.0,
        l2: float = 0.0,
        k: int | None = None,
        balance_weight: float = 1e-2,
        z_weight: float = 1e-3,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_tasks = int(num_tasks)
        self.num_specific_experts = int(num_specific_experts)
        self.num_shared_experts = int(num_shared_experts)
        if min(self.num_tasks, self.num_specific_experts, self.num_shared_experts) < 1:
            raise ValueError(
                "expected at least one task, one private expert of each and one shared expert; "
                f"received num_tasks={num_tasks}, num_specific_experts={num_specific_experts}, "
                f"num_shared_experts={num_shared_experts}"
            )
        self.units = [int(width) for width in units]
        self.gate_units = [int(width) for width in gate_units]
        self.shared_output = bool(shared_output)
        self.dropout = float(dropout)
        self.l2 = float(l2)
        self.k = None if k is None else int(k)
        self.balance_weight = float(balance_weight)
        self.z_weight = float(z_weight)

    def build(self, input_shape: Any) -> None:
        """Creates experts and gates for task inputs of `input_shape`."""
        shape = tf.TensorShape(input_shape)
        row = tf.TensorShape([None, shape[-1]])
        options: dict[str, Any] = {"l2": self.l2, "dtype": self.dtype_policy}
        self.specific_experts = ExpertGroups(
            self.num_tasks,
            self.num_specific_experts,
            self.units,
            dropout=self.dropout,
            name="specific_experts",
            **options,
        )
        self.shared_experts = Experts(
            self.num_shared_experts,
            self.units,
            dropout=self.dropout,
            name="shared_experts",
            **options,
        )
        specific = [
            [f"task_{task}_{number}" for number in range(self.num_specific_experts)]
            for task in range(self.num_tasks)
        ]
        shared = [f"shared_{number}" for number in range(self.num_shared_experts)]
        routing: dict[str, Any] = {
            "k": self.k,
            "balance_weight": self.balance_weight,
            "z_weight": self.z_weight,
        }
        self.gates = [
            Gate(
                len(own) + len(shared),
                units=self.gate_units,
                expert_names=[*own, *shared],
                name=f"gate_{task}",
                **routing,
                **options,
            )
            for task, own in enumerate(specific)
        ]
        sublayers: list[tuple[Any, tf.TensorShape]] = [
            (self.specific_experts, shape),
            (self.shared_experts, row),
        ]
        sublayers += [(gate, row) for gate in self.gates]
        if self.shared_output:
            everyone = [*itertools.chain.from_iterable(specific), *shared]
            self.shared_gate = Gate(
                len(everyone),
                units=self.gate_units,
                expert_names=everyone,
                name="shared_gate",
                **routing,
                **options,
            )
            sublayers.append((self.shared_gate, row))
        for layer, layer_shape in sublayers:
            with tf.name_scope(layer.name):
                layer.build(layer_shape)
        super().build(input_shape)

    def call(
        self, task_inputs: tf.Tensor, shared_input: tf.Tensor, training: bool | None = None
    ) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """Returns y^t `[B, T, H]` and, with `shared_output`, y^s `[B, H]`."""
        # Keras casts the first argument alone to the layer's dtype.
        shared_input = tf.cast(shared_input, task_inputs.dtype)
        if self.k is not None:
            return self._call_chosen(task_inputs, shared_input, training)
        specific = self.specific_experts(task_inputs, training=training)
        shared = self.shared_experts(shared_input, training=training)
        common = task_inputs.shape.rank == 2
        rows = [task_inputs] * self.num_tasks if common else tf.unstack(task_inputs, axis=1)
        gates = tf.stack([gate(row) for gate, row in zip(self.gates, rows, strict=True)], axis=1)
        own, others = tf.split(
            tf.cast(gates, specific.dtype),
            [self.num_specific_experts, self.num_shared_experts],
            axis=-1,
        )
        tasks = tf.einsum("bts,btsh->bth", own, specific) + tf.einsum(
            "btc,bch->bth", others, shared
        )
        if not self.shared_output:
            return tasks
        everyone = self.num_tasks * self.num_specific_experts
        experts = tf.concat([tf.reshape(specific, [-1, everyone, self.units[-1]]), shared], axis=1)
        gate = tf.cast(self.shared_gate(shared_input), experts.dtype)
        return tasks, tf.einsum("bn,bnh->bh", gate, experts)

    def _call_chosen(
        self, task_inputs: tf.Tensor, shared_input: tf.Tensor, training: bool | None
    ) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """The same of the experts that the gates choose."""
        rows = (
            [task_inputs] * self.num_tasks
            if task_inputs.shape.rank == 2
            else tf.unstack(task_inputs, axis=1)
        )
        size, private = self.num_specific_experts, self.num_tasks * self.num_specific_experts
        everyone = range(private + self.num_shared_experts)
        seen = [
            [*everyone[task * size : (task + 1) * size], *everyone[private:]]
            for task in range(self.num_tasks)
        ]
        routings = [gate(row) for gate, row in zip(self.gates, rows, strict=True)]
        if self.shared_output:
            seen.append(list(everyone))
            routings.append(self.shared_gate(shared_input))
        report_routing(self, routings)
        outputs = visit_experts(
            [self.specific_experts, self.shared_experts],
            tf.stack([*rows, shared_input], axis=1),
            [
                tf.gather(tf.constant(numbers), routing.experts)
                for numbers, routing in zip(seen, routings, strict=True)
            ],
            sources=[min(expert // size, self.num_tasks) for expert in everyone],
            training=training,
        )
        mixtures = [
            tf.einsum("bk,bkh->bh", tf.cast(routing.weights, experts.dtype), experts)
            for routing, experts in zip(routings, outputs, strict=True)
        ]
        tasks = tf.stack(mixtures[: self.num_tasks], axis=1)
        return (tasks, mixtures[-1]) if self.shared_output else tasks

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_tasks": self.num_tasks,
            "num_specific_experts": self.num_specific_experts,
            "num_shared_experts": self.num_shared_experts,
            "units": self.units,
            "gate_units": self.gate_units,
            "shared_output": self.shared_output,
            "dropout": self.dropout,
            "l2": self.l2,
            "k": self.k,
            "balance_weight": self.balance_weight,
            "z_weight": self.z_weight,
        }
