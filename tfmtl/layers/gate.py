"""A softmax gate over experts, which may choose among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.mlp import MLP
from tfmtl.layers.recording import Recording
from tfmtl.layers.top_k_router import Routing


@keras.utils.register_keras_serializable(package="tfmtl")
class Gate(keras.layers.Layer):
    """Distribution g^k(x) over experts: an MLP, a linear map and a softmax in float32.

    With `k` the gate chooses: a row goes to its k most probable experts, whose weights are scaled
    to sum to 1. Of a single chosen expert the weight stays its probability, through which the task
    trains the gate; scaled, it would always be 1. Two losses join those of the model,

        loss <- loss + w_bal L_bal + w_z L_z

    of `TopKRouter`, over the E experts of this gate and the rows of the batch: gates that choose
    would otherwise settle on a few experts.

    Args:
        num_experts: Number of experts E.
        units: Widths of hidden layers; empty gives the linear gate.
        l2: Penalty on the squared kernels.
        expert_names: Names of the experts in a `Recording`; their numbers when not given.
        k: Experts chosen for each row, all where it is more than E; None for the plain softmax.
        balance_weight: Weight w_bal of the load balance loss, with `k`.
        z_weight: Weight w_z of the loss on the size of the logits, with `k`.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [B, D]`. Output shape: `float32 [B, E]`, rows sum to 1; with `k` a
    `Routing`.

    Raises:
        ValueError: If there is no expert, not one name for each, or `k` is not positive.

    References:
        MoGENet equation 4, g^k; MMoE (KDD 2018) equation 7; Switch Transformer (JMLR 2022),
        equations 4 to 6, and ST-MoE (2022), equation 5, for the losses and their weights.

    Deviations:
        MoGENet's text says one linear map, its implementation section a network of [16, 16]
        before it; `units` chooses. A gate per task that chooses is a form of our own.

    Example:
        >>> import tensorflow as tf
        >>> round(float(tf.reduce_sum(Gate(4, units=[16])(tf.ones([1, 8])))), 6)
        1.0
    """

    def __init__(
        self,
        num_experts: int,
        *,
        units: Sequence[int] = (),
        l2: float = 0.0,
        expert_names: Sequence[str] | None = None,
        k: int | None = None,
        balance_weight: float = 1e-2,
        z_weight: float = 1e-3,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_experts = int(num_experts)
        if self.num_experts < 1:
            raise ValueError(f"expected at least one expert; received {num_experts}")
        self.units = [int(width) for width in units]
        self.l2 = float(l2)
        names = list(map(str, range(num_experts)) if expert_names is None else expert_names)
        if len(names) != self.num_experts:
            raise ValueError(
                f"expected one name for each of {num_experts} experts; received {names}"
            )
        self.expert_names = names
        self.k = None if k is None else int(k)
        if self.k is not None and self.k < 1:
            raise ValueError(
                f"expected k of at least 1; received {k}: take None to keep all experts"
            )
        self.balance_weight = float(balance_weight)
        self.z_weight = float(z_weight)

    def build(self, input_shape: Any) -> None:
        """Creates the hidden layers and the map to expert scores."""
        self._hidden = MLP(self.units, l2=self.l2, dtype=self.dtype_policy, name="hidden")
        with tf.name_scope(self._hidden.name):
            self._hidden.build(input_shape)
        width = self.units[-1] if self.units else tf.TensorShape(input_shape)[-1]
        self._scores = keras.layers.Dense(
            self.num_experts,
            kernel_regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            dtype=self.dtype_policy,
            name="scores",
        )
        with tf.name_scope(self._scores.name):
            self._scores.build(tf.TensorShape([None, width]))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor | Routing:
        """Maps `[B, D]` to expert weights `float32 [B, E]`, or to a `Routing`."""
        # Half precision would round small gate values to zero and starve their experts.
        scores = tf.cast(self._scores(self._hidden(inputs)), tf.float32)
        if self.k is None:
            weights = tf.nn.softmax(scores)
            Recording.show_gate(self.expert_names, weights)
            return weights
        k = min(self.k, self.num_experts)
        routing = Routing.from_logits(scores, k=k, renormalize=k > 1)
        self.add_loss(self.balance_weight * routing.balance_loss + self.z_weight * routing.z_loss)
        shares = routing.weights / tf.reduce_sum(routing.weights, axis=-1, keepdims=True)
        chosen = tf.one_hot(routing.experts, self.num_experts)
        Recording.show_gate(self.expert_names, tf.einsum("bk,bke->be", shares, chosen))
        return routing

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "units": self.units,
            "l2": self.l2,
            "expert_names": self.expert_names,
            "k": self.k,
            "balance_weight": self.balance_weight,
            "z_weight": self.z_weight,
        }
