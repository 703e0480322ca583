"""One vector from the recent neighbours of a row, seen from its target."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.masked_softmax import masked_softmax
from tfmtl.layers.target_scores import target_scores


@keras.utils.register_keras_serializable(package="tfmtl")
class MicroNeighborhood(keras.layers.Layer):
    """Mean of recent neighbours by their merged score s and by attention to the target q.

        kappa = softmax_l( log(s_l + 1) / tau + (x_l W_Q).(q W_K) / sqrt(H) )
        r = sum_l kappa_l x_l W_V

    Shapes: B rows, L recent neighbours, d embedding width, H `units`.

    Args:
        units: Width H of the output.
        tau: Temperature of the scores.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: neighbours x `float [B, L, d]`, targets q `float [B, d]`, log(s + 1)
    `float [B, L]`, and the mask `bool [B, L]` of neighbours that there are.
    Output shape: `float [B, H]`; rows without a neighbour are exactly 0.

    Raises:
        ValueError: If `units` or `tau` is not positive.

    References:
        MGOE Figure 2, micro neighbour representation; MacGNN, released code, for the matrices.

    Deviations:
        The form is our own: MGOE's figure shows that the directly met neighbours are aggregated.
        MacGNN adds up recent neighbours without weights. Softmax in float32 under any policy.

    Example:
        >>> import tensorflow as tf
        >>> recent, target, scores = tf.ones([2, 3, 4]), tf.ones([2, 4]), tf.zeros([2, 3])
        >>> mask = tf.constant([[True, True, False], [False, False, False]])
        >>> states = MicroNeighborhood(8)(recent, target, scores, mask)
        >>> float(tf.reduce_sum(tf.abs(states[1])))  # the second row has no neighbour
        0.0
    """

    def __init__(self, units: int, *, tau: float = 1.3, l2: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = int(units)
        self.tau = float(tau)
        if self.units < 1 or not self.tau > 0:
            raise ValueError(
                f"expected positive units and a positive tau; received units={units}, tau={tau}"
            )
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates W_Q, W_K and W_V for neighbours of `input_shape` `[B, L, d]`."""
        width = int(tf.TensorShape(input_shape)[-1])

        def matrix(name: str) -> tf.Variable:
            return self.add_weight(
                name=name,
                shape=(width, self.units),
                initializer="glorot_uniform",
                regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            )

        self._query, self._key, self._value = matrix("query"), matrix("key"), matrix("value")
        super().build(input_shape)

    def call(
        self, neighbors: tf.Tensor, target: tf.Tensor, log_scores: tf.Tensor, mask: tf.Tensor
    ) -> tf.Tensor:
        """Maps neighbours `[B, L, d]` to `[B, H]`."""
        scores = target_scores(neighbors, target, self._query, self._key)
        weights = masked_softmax(scores + tf.cast(log_scores, tf.float32) / self.tau, mask)
        pooled = tf.einsum("bn,bnd->bd", tf.cast(weights, neighbors.dtype), neighbors)
        return tf.matmul(pooled, tf.cast(self._value, pooled.dtype))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "units": self.units, "tau": self.tau, "l2": self.l2}
