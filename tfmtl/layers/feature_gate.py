"""Low-rank gates on the features that an expert reads."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.per_expert_initializer import PerExpertInitializer


@keras.utils.register_keras_serializable(package="tfmtl")
class FeatureGate(keras.layers.Layer):
    """N gated views of a vector: x * 2 sigmoid(x B^n A^n), n = 1..N.

    A gate of 1 leaves a feature as it is; the gates start near 1, for B and A start small.

    Shapes: B batch, D input width, N gates, r rank: B^n is `[D, r]`, A^n `[r, D]`.

    Args:
        num_gates: Number of gates N.
        rank: Rank r of the product B^n A^n.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [B, N, D]`, or `float [B, D]` for one vector that all gates read.
    Output shape: `float [B, N, D]`.

    Raises:
        ValueError: If a number is not positive.

    References:
        Wang et al., HoME: Hierarchy of Multi-Gate Experts (KDD 2025), the feature-gate.

    Example:
        >>> import tensorflow as tf
        >>> FeatureGate(3, rank=2)(tf.ones([5, 16])).shape
        TensorShape([5, 3, 16])
    """

    def __init__(self, num_gates: int, *, rank: int = 8, l2: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_gates = int(num_gates)
        self.rank = int(rank)
        if min(self.num_gates, self.rank) < 1:
            raise ValueError(
                "expected at least one gate of at least rank 1; "
                f"received num_gates={num_gates}, rank={rank}"
            )
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates the stacked factors `[N, D, r]` and `[N, r, D]`."""
        width = int(tf.TensorShape(input_shape)[-1])

        def factor(name: str, *shape: int) -> tf.Variable:
            return self.add_weight(
                name=name,
                shape=(self.num_gates, *shape),
                initializer=PerExpertInitializer("glorot_uniform"),
                regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            )

        self._down = factor("kernel_down", width, self.rank)
        self._up = factor("kernel_up", self.rank, width)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps `[B, N, D]` or `[B, D]` to `[B, N, D]`."""
        common = inputs.shape.rank == 2
        equation = "bi,nir->bnr" if common else "bni,nir->bnr"
        reduced = tf.einsum(equation, inputs, tf.cast(self._down, inputs.dtype))
        scores = tf.einsum("bnr,nri->bni", reduced, tf.cast(self._up, inputs.dtype))
        return (inputs[:, tf.newaxis] if common else inputs) * 2 * tf.sigmoid(scores)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_gates": self.num_gates,
            "rank": self.rank,
            "l2": self.l2,
        }
