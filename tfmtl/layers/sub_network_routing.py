"""Gated connections between two levels of sub-networks."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.per_expert_initializer import PerExpertInitializer
from tfmtl.layers.random_generator import random_generator

# beta, gamma and zeta of the hard concrete distribution, as published.
_TEMPERATURE, _LOWEST, _HIGHEST = 2 / 3, -0.1, 1.1


@keras.utils.register_keras_serializable(package="tfmtl")
class SubNetworkRouting(keras.layers.Layer):
    """u_j = sum_i z_ij W_ij v_i, where the gates z_ij learn which connections exist.

    In training a gate is drawn from the hard concrete distribution, once per batch; elsewhere it
    stands at a fixed value. Both can be exactly 0, a closed connection, and exactly 1:

        training:   z = clip(s (zeta - gamma) + gamma, 0, 1),
                    s = sigmoid((log a - log(1 - a) + log alpha) / beta),  a ~ U(0, 1)
        inference:  z = clip(sigmoid(log alpha) (zeta - gamma) + gamma, 0, 1)

    with beta 2/3, gamma -0.1 and zeta 1.1. Training may bear the expected number of open
    connections, sum_ij P(z_ij > 0) = sum_ij sigmoid(log alpha_ij - beta log(-gamma / zeta)).

    Shapes: B batch, I inputs of width D, J outputs of width O. All connections are one matrix
    product `[B, I D] x [I D, J O]`.

    Args:
        num_outputs: Number of outputs J.
        units: Width O of an output.
        stochastic: Whether training draws the gates; else they have their values of inference in
            training too.
        l2: Penalty on the squared matrices W_ij.
        l0: Penalty on the expected number of open connections.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [B, I, D]`. Output shape: `float [B, J, O]`.

    Raises:
        ValueError: If `num_outputs` or `units` is not positive, or the number of inputs or their
            width is unknown.

    References:
        Ma et al., SNR: Sub-Network Routing for Flexible Parameter Sharing in Multi-Task Learning
        (AAAI 2019), SNR-Trans; Louizos et al., Learning Sparse Neural Networks through L0
        Regularization (ICLR 2018), the hard concrete distribution.

    Deviations:
        log alpha starts at 0: a gate is open with probability 0.83 and stands at 1/2 in inference.

    Example:
        >>> import tensorflow as tf
        >>> layer = SubNetworkRouting(2, 8)
        >>> layer(tf.ones([5, 4, 16])).shape
        TensorShape([5, 2, 8])
        >>> layer.gates().numpy()[:, 0].tolist()
        [0.5, 0.5, 0.5, 0.5]
    """

    def __init__(
        self,
        num_outputs: int,
        units: int,
        *,
        stochastic: bool = True,
        l2: float = 0.0,
        l0: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_outputs = int(num_outputs)
        self.units = int(units)
        if min(self.num_outputs, self.units) < 1:
            raise ValueError(
                "expected at least one output of positive width; "
                f"received num_outputs={num_outputs}, units={units}"
            )
        self.stochastic = bool(stochastic)
        self.l2 = float(l2)
        self.l0 = float(l0)

    def build(self, input_shape: Any) -> None:
        """Creates the matrices `[I, J, D, O]` and the gates' log alpha `[I, J]`."""
        shape = tf.TensorShape(input_shape)
        if shape.rank != 3 or not shape[1:].is_fully_defined():
            raise ValueError(
                f"expected inputs [B, I, D] of known I and D; received {shape}: stack the outputs "
                "of the sub-networks on axis 1"
            )
        num_inputs, width = shape[1:].as_list()
        self._kernel = self.add_weight(
            name="kernel",
            shape=(num_inputs, self.num_outputs, width, self.units),
            # Each W_ij has its own fan and draw.
            initializer=PerExpertInitializer(PerExpertInitializer("glorot_uniform")),
            regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
        )
        self._log_alpha = self.add_weight(
            name="log_alpha",
            shape=(num_inputs, self.num_outputs),
            initializer="zeros",
            # Gates are made in float32 under any policy.
            experimental_autocast=False,
        )
        if self.stochastic:
            self._generator = random_generator()
        super().build(input_shape)

    @property
    def kernel(self) -> tf.Variable:
        """Matrices W_ij `[I, J, D, O]`."""
        return self._kernel

    @property
    def log_alpha(self) -> tf.Variable:
        """Locations of the gates `[I, J]`."""
        return self._log_alpha

    def gates(self, training: bool | None = None) -> tf.Tensor:
        """Gates z `float32 [I, J]`: a draw in training if they are stochastic, else fixed."""
        score = tf.cast(self._log_alpha, tf.float32)
        if training and self.stochastic:
            # Bounds keep both logarithms finite.
            noise = self._generator.uniform(score.shape, minval=1e-6, maxval=1 - 1e-6)
            score = (tf.math.log(noise) - tf.math.log1p(-noise) + score) / _TEMPERATURE
        stretched = tf.sigmoid(score) * (_HIGHEST - _LOWEST) + _LOWEST
        return tf.clip_by_value(stretched, 0.0, 1.0)

    def expected_connections(self) -> tf.Tensor:
        """Expected number of connections that a draw leaves open, a `float32` scalar."""
        shift = _TEMPERATURE * math.log(-_LOWEST / _HIGHEST)
        return tf.reduce_sum(tf.sigmoid(tf.cast(self._log_alpha, tf.float32) - shift))

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps `[B, I, D]` to `[B, J, O]`."""
        if self.l0:
            self.add_loss(self.l0 * self.expected_connections())
        gates = tf.cast(self.gates(training), inputs.dtype)
        # A gate is the same for all rows: matrices are fewer than activations.
        kernel = gates[:, :, tf.newaxis, tf.newaxis] * tf.cast(self._kernel, inputs.dtype)
        return tf.einsum("bid,ijdo->bjo", inputs, kernel)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_outputs": self.num_outputs,
            "units": self.units,
            "stochastic": self.stochastic,
            "l2": self.l2,
            "l0": self.l0,
        }
