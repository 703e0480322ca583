"""Groups of expert networks, each group with an input of its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.dropout import Dropout
from tfmtl.layers.expert_dispatch import StackedLayer
from tfmtl.layers.per_expert_initializer import PerExpertInitializer

Normalization = Literal["batch", "layer"]


@keras.utils.register_keras_serializable(package="tfmtl")
class ExpertGroups(keras.layers.Layer):
    """G groups of E multi-layer perceptrons of equal shape; a group's experts share its input.

    Shapes: B batch, D input width, G groups, E experts of a group, H width of the last layer. A
    layer of all G E experts is one batched matrix product. Experts are numbered group by group:
    those of group g are g E to (g + 1) E - 1.

    Args:
        num_groups: Number of groups G.
        num_experts: Number of experts E of a group.
        units: Width of each layer of an expert.
        activation: Name of the activation after every layer.
        normalization: What stands between the last layer and its activation: `batch` scales each
            of an expert's outputs over the rows, `layer` scales each row over an expert's outputs;
            None leaves them as they are. A normalised layer has no bias but a scale and a shift.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [B, G, D]`, or `float [B, D]` for one input that all groups read.
    Output shape: `float [B, G, E, H]`.

    Raises:
        ValueError: If a number or a width is not positive, `units` is empty, the normalisation is
            unknown or the input is for another number of groups.

    Example:
        >>> import tensorflow as tf
        >>> ExpertGroups(3, 2, [32, 8])(tf.ones([5, 3, 16])).shape
        TensorShape([5, 3, 2, 8])
    """

    def __init__(
        self,
        num_groups: int,
        num_experts: int,
        units: Sequence[int],
        *,
        activation: str = "leaky_relu",
        normalization: Normalization | None = None,
        dropout: float = 0.0,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_groups = int(num_groups)
        self.num_experts = int(num_experts)
        self.units = [int(width) for width in units]
        if min(self.num_groups, self.num_experts, *self.units) < 1 or not self.units:
            raise ValueError(
                "expected at least one group of at least one expert with at least one positive "
                f"width; received num_groups={num_groups}, num_experts={num_experts}, "
                f"units={list(units)}"
            )
        if normalization not in (None, "batch", "layer"):
            raise ValueError(
                f"expected normalization 'batch', 'layer' or None; received {normalization!r}"
            )
        self.activation = activation
        self.normalization = normalization
        self.dropout = float(dropout)
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates one stacked kernel `[G E, in, out]` and bias `[G E, out]` per layer."""
        shape = tf.TensorShape(input_shape)
        if shape.rank not in (2, 3) or (shape.rank == 3 and shape[1] != self.num_groups):
            raise ValueError(
                f"expected inputs [B, D] or, one per group, [B, {self.num_groups}, D]; "
                f"received {shape}"
            )
        experts, width = self.num_groups * self.num_experts, int(shape[-1])
        self._activation = keras.activations.get(self.activation)
        self._drop = Dropout(self.dropout, dtype=self.dtype_policy)
        self._kernels, self._biases = [], []
        for number, units in enumerate(self.units):
            self._kernels.append(
                self.add_weight(
                    name=f"kernel_{number}",
                    shape=(experts, width, units),
                    initializer=PerExpertInitializer("glorot_uniform"),
                    regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
                )
            )
            if number < len(self.units) - 1 or self.normalization is None:
                self._biases.append(
                    self.add_weight(
                        name=f"bias_{number}", shape=(experts, units), initializer="zeros"
                    )
                )
            width = units
        self._normalize = None
        # Over untrained embeddings outputs vary by less than Keras' own epsilon of 1e-3.
        options: dict[str, Any] = {"epsilon": 1e-5, "dtype": "float32", "name": "normalization"}
        if self.normalization == "batch":
            # Keras' own momentum of 0.99 would leave the start in the averages of short trainings.
            self._normalize = keras.layers.BatchNormalization(momentum=0.9, **options)
        elif self.normalization == "layer":
            self._normalize = keras.layers.GroupNormalization(groups=experts, **options)
        if self._normalize is not None:
            with tf.name_scope(self._normalize.name):
                self._normalize.build(tf.TensorShape([None, experts * width]))
        super().build(input_shape)

    @property
    def kernels(self) -> list[tf.Variable]:
        """Stacked kernels `[G E, in, out]`, first layer first."""
        return self._kernels

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps `[B, G, D]` or `[B, D]` to `[B, G, E, H]`."""
        hidden = inputs
        for number, kernel in enumerate(self._kernels):
            kernel = tf.cast(kernel, hidden.dtype)
            if number == 0:
                hidden = self._first_layer(hidden, kernel)
            else:
                hidden = tf.einsum("bni,nio->bno", hidden, kernel)
            if number < len(self._biases):
                hidden += tf.cast(self._biases[number], hidden.dtype)
            else:
                hidden = self._normalized(hidden, training)
            hidden = self._activation(hidden)
            if self.dropout:
                hidden = self._drop(hidden, training=training)
        return tf.reshape(hidden, [-1, self.num_groups, self.num_experts, self.units[-1]])

    def _first_layer(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if inputs.shape.rank == 2:
            return tf.einsum("bi,nio->bno", inputs, kernel)
        kernel = tf.reshape(kernel, [self.num_groups, self.num_experts, *kernel.shape[1:]])
        outputs = tf.einsum("bgi,geio->bgeo", inputs, kernel)
        return tf.reshape(outputs, [-1, self.num_groups * self.num_experts, self.units[0]])

    def _normalized(self, outputs: tf.Tensor, training: bool | None) -> tf.Tensor:
        assert self._normalize is not None
        columns = self.num_groups * self.num_experts * self.units[-1]
        # Half precision has no number for the variance of outputs in the hundreds.
        flat = tf.cast(tf.reshape(outputs, [-1, columns]), tf.float32)
        if self.normalization == "batch":
            flat = self._normalize(flat, training=training)
        else:
            flat = self._normalize(flat)
        return tf.cast(tf.reshape(flat, [-1, *outputs.shape[1:]]), outputs.dtype)

    def stacked_layers(self, training: bool | None = None) -> list[StackedLayer]:
        """The layers as `visit_experts` evaluates them, on the rows that visit an expert alone.

        Args:
            training: Whether dropout is active.

        Returns:
            One layer of all G E experts after the other.

        Raises:
            ValueError: If outputs are scaled over the rows of the batch: those that visit an expert
                are not all of them.
        """
        if self.normalization == "batch":
            raise ValueError(
                "expected normalization 'layer' or None where rows visit some experts only; "
                "received 'batch', whose statistics are those of all rows: take "
                "normalization='layer'"
            )

        def finish(hidden: tf.Tensor) -> tf.Tensor:
            return self._drop(self._activation(hidden), training=training)

        layers = [
            StackedLayer(kernel, bias, finish=finish)
            for kernel, bias in itertools.zip_longest(self._kernels, self._biases)
        ]
        if self._normalize is not None:
            shape = [self.num_groups * self.num_experts, self.units[-1]]
            layers[-1] = layers[-1]._replace(
                bias=tf.reshape(self._normalize.beta, shape),
                scale=tf.reshape(self._normalize.gamma, shape),
                normalize=self._standardized,
            )
        return layers

    def _standardized(self, outputs: tf.Tensor) -> tf.Tensor:
        assert self._normalize is not None
        outputs = tf.cast(outputs, tf.float32)
        mean, variance = tf.nn.moments(outputs, axes=[-1], keepdims=True)
        return (outputs - mean) * tf.math.rsqrt(variance + self._normalize.epsilon)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_groups": self.num_groups,
            "num_experts": self.num_experts,
            "units": self.units,
            "activation": self.activation,
            "normalization": self.normalization,
            "dropout": self.dropout,
            "l2": self.l2,
        }
