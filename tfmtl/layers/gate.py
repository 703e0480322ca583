"""A softmax gate over experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.mlp import MLP
from tfmtl.layers.recording import Recording


@keras.utils.register_keras_serializable(package="tfmtl")
class Gate(keras.layers.Layer):
    """Distribution g^k(x) over experts: an MLP, a linear map and a softmax in float32.

    Args:
        num_experts: Number of experts E.
        units: Widths of hidden layers; empty gives the linear gate.
        l2: Penalty on the squared kernels.
        expert_names: Names of the experts in a `Recording`; their numbers when not given.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [B, D]`. Output shape: `float32 [B, E]`, rows sum to 1.

    Raises:
        ValueError: If there is no expert, or not one name for each.

    References:
        MoGENet equation 4, g^k; MMoE (KDD 2018) equation 7.

    Deviations:
        MoGENet's text says one linear map, its implementation section a network of [16, 16]
        before it; `units` chooses.

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

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps `[B, D]` to expert weights `float32 [B, E]`."""
        # Half precision would round small gate values to zero and starve their experts.
        weights = tf.nn.softmax(tf.cast(self._scores(self._hidden(inputs)), tf.float32))
        Recording.show_gate(self.expert_names, weights)
        return weights

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "units": self.units,
            "l2": self.l2,
            "expert_names": self.expert_names,
        }
