"""A bank of expert networks over one shared input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.dropout import Dropout
from tfmtl.layers.expert_dispatch import StackedLayer
from tfmtl.layers.per_expert_initializer import PerExpertInitializer


@keras.utils.register_keras_serializable(package="tfmtl")
class Experts(keras.layers.Layer):
    """N multi-layer perceptrons f^n of equal shape on the same input.

    Shapes: B batch, D input width, E experts, H width of the last layer. The first layer of all
    experts is one matrix product `[B, D] x [D, E H_1]`, the later ones are batched over experts.

    Args:
        num_experts: Number of experts E.
        units: Width of each layer of an expert.
        activation: Name of the activation after every layer.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [B, D]`. Output shape: `float [B, E, H]`.

    Raises:
        ValueError: If `num_experts` or a width is not positive, or `units` is empty.

    References:
        MoGENet equation 4, f^n; MMoE (KDD 2018) equation 5.

    Example:
        >>> import tensorflow as tf
        >>> Experts(4, [32, 8])(tf.ones([2, 16])).shape
        TensorShape([2, 4, 8])
    """

    def __init__(
        self,
        num_experts: int,
        units: Sequence[int],
        *,
        activation: str = "leaky_relu",
        dropout: float = 0.0,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_experts = int(num_experts)
        self.units = [int(width) for width in units]
        if self.num_experts < 1 or not self.units or min(self.units) < 1:
            raise ValueError(
                "expected at least one expert with at least one positive width; "
                f"received num_experts={num_experts}, units={list(units)}"
            )
        self.activation = activation
        self.dropout = float(dropout)
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates one stacked kernel `[E, in, out]` and bias `[E, out]` per layer."""
        width = int(tf.TensorShape(input_shape)[-1])
        self._activation = keras.activations.get(self.activation)
        self._drop = Dropout(self.dropout, dtype=self.dtype_policy)
        self._kernels, self._biases = [], []
        for number, units in enumerate(self.units):
            self._kernels.append(
                self.add_weight(
                    name=f"kernel_{number}",
                    shape=(self.num_experts, width, units),
                    initializer=PerExpertInitializer("glorot_uniform"),
                    regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
                )
            )
            self._biases.append(
                self.add_weight(
                    name=f"bias_{number}", shape=(self.num_experts, units), initializer="zeros"
                )
            )
            width = units
        super().build(input_shape)

    @property
    def kernels(self) -> list[tf.Variable]:
        """Stacked kernels `[E, in, out]`, first layer first."""
        return self._kernels

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps `[B, D]` to `[B, E, H]`."""
        hidden = inputs
        for number, (kernel, bias) in enumerate(zip(self._kernels, self._biases, strict=True)):
            equation = "bi,eio->beo" if number == 0 else "bei,eio->beo"
            hidden = tf.einsum(equation, hidden, tf.cast(kernel, hidden.dtype))
            hidden = self._activation(hidden + tf.cast(bias, hidden.dtype))
            if self.dropout:
                hidden = self._drop(hidden, training=training)
        return hidden

    def stacked_layers(self, training: bool | None = None) -> list[StackedLayer]:
        """The layers as `visit_experts` evaluates them, on the rows that visit an expert alone."""

        def finish(hidden: tf.Tensor) -> tf.Tensor:
            return self._drop(self._activation(hidden), training=training)

        return [
            StackedLayer(kernel, bias, finish=finish)
            for kernel, bias in zip(self._kernels, self._biases, strict=True)
        ]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "units": self.units,
            "activation": self.activation,
            "dropout": self.dropout,
            "l2": self.l2,
        }
