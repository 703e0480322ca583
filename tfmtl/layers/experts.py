"""A bank of expert networks over one shared input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.compiled_or_gpu import compiled_or_gpu
from tfmtl.layers.dropout import Dropout
from tfmtl.layers.expert_dispatch import StackedLayer
from tfmtl.layers.per_expert_initializer import PerExpertInitializer

Implementation = Literal["auto", "loop", "batched"]


@keras.utils.register_keras_serializable(package="tfmtl")
class Experts(keras.layers.Layer):
    """N multi-layer perceptrons f^n of equal shape on the same input.

    Shapes: B batch, D input width, E experts, H width of the last layer.

    There are two implementations of the same sums. `batched` makes the first layer of all experts
    one matrix product `[B, D] x [D, E H_1]` and batches the later ones over experts: few and large
    kernels, as a GPU and XLA want them. `loop` evaluates expert after expert, so that no activation
    is transposed, which costs a CPU more than it saves.

    Args:
        num_experts: Number of experts E.
        units: Width of each layer of an expert.
        activation: Name of the activation after every layer.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared kernels.
        implementation: `loop`, `batched`, or `auto`: batched under XLA and where there is a GPU.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [B, D]`. Output shape: `float [B, E, H]`.

    Raises:
        ValueError: If `num_experts` or a width is not positive, `units` is empty, or
            `implementation` is unknown.

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
        implementation: Implementation = "auto",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if implementation not in ("auto", "loop", "batched"):
            raise ValueError(
                "expected implementation 'auto', 'loop' or 'batched'; received "
                f"{implementation!r}: take 'auto' unless you compare them"
            )
        self.implementation: Implementation = implementation
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

    @property
    def is_batched(self) -> bool:
        """Whether a call made now evaluates all experts at one time."""
        return self.implementation == "batched" or (
            self.implementation == "auto" and compiled_or_gpu()
        )

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, stacked: bool = True
    ) -> tf.Tensor | list[tf.Tensor]:
        """Maps `[B, D]` to `[B, E, H]`, or to E tensors `[B, H]` that are not stacked."""
        if self.is_batched:
            outputs = self._batched(inputs, training)
            return outputs if stacked else tf.unstack(outputs, axis=1)
        own = self._looped(inputs, training)
        return tf.stack(own, axis=1) if stacked else own

    def _looped(self, inputs: tf.Tensor, training: bool | None) -> list[tf.Tensor]:
        outputs = [inputs] * self.num_experts
        for kernels, biases in zip(self._kernels, self._biases, strict=True):
            own = zip(
                tf.unstack(tf.cast(kernels, inputs.dtype)),
                tf.unstack(tf.cast(biases, inputs.dtype)),
                strict=True,
            )
            outputs = [
                self._activation(tf.nn.bias_add(tf.matmul(hidden, kernel), bias))
                for hidden, (kernel, bias) in zip(outputs, own, strict=True)
            ]
            if self.dropout:
                outputs = [self._drop(hidden, training=training) for hidden in outputs]
        return outputs

    def _batched(self, inputs: tf.Tensor, training: bool | None) -> tf.Tensor:
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
            "implementation": self.implementation,
        }
