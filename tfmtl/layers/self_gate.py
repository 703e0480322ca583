"""A gate of a group of experts over itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.recording import Recording


@keras.utils.register_keras_serializable(package="tfmtl")
class SelfGate(keras.layers.Layer):
    """sum_n s_n(x) f^n over a group's E experts, to be added to what a gate made of them.

    s is a softmax over the experts, or, for a single expert, whose softmax would always be 1, a
    sigmoid. The sum is a second way for gradients to reach experts that the gate passes over.

    Shapes: B batch, D input width, E experts, H width of an expert.

    Args:
        num_experts: Number of experts E.
        l2: Penalty on the squared kernel.
        expert_names: Names of the experts in a `Recording`; their numbers when not given.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: what the gate reads, `float [B, D]`, and the experts, `float [B, E, H]`.
    Output shape: `float [B, H]`.

    Raises:
        ValueError: If the number of experts is not positive, or there is not one name for each.

    References:
        Wang et al., HoME: Hierarchy of Multi-Gate Experts (KDD 2025), the self-gate.

    Example:
        >>> import tensorflow as tf
        >>> SelfGate(2)(tf.zeros([1, 3]), tf.constant([[[2.0], [4.0]]])).numpy().tolist()
        [[3.0]]
    """

    def __init__(
        self,
        num_experts: int,
        *,
        l2: float = 0.0,
        expert_names: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_experts = int(num_experts)
        if self.num_experts < 1:
            raise ValueError(f"expected at least one expert; received {num_experts}")
        self.l2 = float(l2)
        names = list(map(str, range(num_experts)) if expert_names is None else expert_names)
        if len(names) != self.num_experts:
            raise ValueError(
                f"expected one name for each of {num_experts} experts; received {names}"
            )
        self.expert_names = names

    def build(self, input_shape: Any) -> None:
        """Creates the map from inputs of `input_shape` to expert scores."""
        self._scores = keras.layers.Dense(
            self.num_experts,
            kernel_regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            dtype=self.dtype_policy,
            name="scores",
        )
        with tf.name_scope(self._scores.name):
            self._scores.build(tf.TensorShape([None, tf.TensorShape(input_shape)[-1]]))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, experts: tf.Tensor) -> tf.Tensor:
        """Maps inputs `[B, D]` and experts `[B, E, H]` to `[B, H]`."""
        # Keras casts the first argument alone to the layer's dtype.
        experts = tf.cast(experts, inputs.dtype)
        # Half precision would round small gate values to zero and starve their experts.
        scores = tf.cast(self._scores(inputs), tf.float32)
        gate = tf.sigmoid(scores) if self.num_experts == 1 else tf.nn.softmax(scores)
        Recording.show_gate(self.expert_names, gate)
        return tf.einsum("be,beh->bh", tf.cast(gate, experts.dtype), experts)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "l2": self.l2,
            "expert_names": self.expert_names,
        }
