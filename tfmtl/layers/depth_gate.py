"""LSTM-like gate that merges a node's state with the message of one more hop."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf
import tf_keras as keras

Depth = Literal["lstm", "geniepath"]


@keras.utils.register_keras_serializable(package="tfmtl")
class DepthGate(keras.layers.Layer):
    """One step h^{l+1} = f(h^l, m) of adaptive depth.

        [i | f | o | c] = W_x m + W_h h + b        gates i, f, o: sigmoid, candidate c: tanh
        C^{l+1} = f * C^l + i * c                  h^{l+1} = o * tanh(C^{l+1})

    Start with C^0 = h^0: messages come from neighbours only, so a node's own embedding survives
    through f alone, and a node without neighbours keeps it.

    Args:
        depth: `lstm` as above, or `geniepath` without W_h h and b.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: message, state and cell, each `float [N, d]`. Returns `(state, cell)`.

    References:
        MoGENet equation 1, f; GeniePath (AAAI 2019) equations 5 and 6.

    Deviations:
        The paper names an LSTM-like operator and prints no formula; `lstm` is the reading in which
        f takes h^l as its argument, with a forget bias of 1.

    Example:
        >>> import tensorflow as tf
        >>> state, cell = DepthGate()(tf.ones([3, 4]), tf.ones([3, 4]), tf.ones([3, 4]))
        >>> state.shape
        TensorShape([3, 4])
    """

    def __init__(self, *, depth: Depth = "lstm", l2: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        if depth not in ("lstm", "geniepath"):
            raise ValueError(f"expected depth 'lstm' or 'geniepath'; received {depth!r}")
        self.depth = depth
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates the gate matrices for messages of `input_shape` `[N, d]`."""
        dim = int(tf.TensorShape(input_shape)[-1])
        regularizer = keras.regularizers.L2(self.l2) if self.l2 else None

        def matrix(name: str) -> tf.Variable:
            return self.add_weight(
                name=name,
                shape=(dim, 4 * dim),
                initializer="glorot_uniform",
                regularizer=regularizer,
            )

        self._kernel = matrix("kernel")
        if self.depth == "lstm":
            self._recurrent = matrix("recurrent_kernel")
            self._bias = self.add_weight(
                name="bias",
                shape=(4 * dim,),
                initializer=_forget_bias,
            )
        super().build(input_shape)

    def call(
        self, message: tf.Tensor, state: tf.Tensor, cell: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the next state and cell, each `[N, d]`."""
        # Keras casts the first argument alone to the layer's dtype.
        state, cell = tf.cast(state, message.dtype), tf.cast(cell, message.dtype)
        gates = tf.matmul(message, tf.cast(self._kernel, message.dtype))
        if self.depth == "lstm":
            gates += tf.matmul(state, tf.cast(self._recurrent, state.dtype))
            gates += tf.cast(self._bias, state.dtype)
        admit, keep, emit, candidate = tf.split(gates, 4, axis=-1)
        cell = tf.sigmoid(keep) * cell + tf.sigmoid(admit) * tf.tanh(candidate)
        return tf.sigmoid(emit) * tf.tanh(cell), cell

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "depth": self.depth, "l2": self.l2}


def _forget_bias(shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
    del kwargs
    quarter = int(shape[0]) // 4
    return tf.concat(
        [tf.zeros([quarter], dtype), tf.ones([quarter], dtype), tf.zeros([2 * quarter], dtype)], 0
    )
