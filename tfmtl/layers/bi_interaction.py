"""NGCF's step from a node's state and its neighbours' sum to its next state."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class BiInteraction(keras.layers.Layer):
    """h' = LeakyReLU( W_1 (h + m) + W_2 (m * h) ), * by element.

    With m = sum_j p_j h_j this is NGCF's sum over neighbours of p_j (W_1 h_j + W_2 (h_j * h)) and
    the node's own W_1 h: both matrices are linear, so they act on nodes, never on edges.

    Args:
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: states h and messages m, each `float [N, d]`. Output: `float [N, d]`.

    References:
        Wang et al., Neural Graph Collaborative Filtering (SIGIR 2019), equations 3 to 7.

    Example:
        >>> import tensorflow as tf
        >>> BiInteraction()(tf.ones([3, 4]), tf.ones([3, 4])).shape
        TensorShape([3, 4])
    """

    def __init__(self, *, l2: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates W_1 and W_2 for states of `input_shape` `[N, d]`."""
        dim = int(tf.TensorShape(input_shape)[-1])
        regularizer = keras.regularizers.L2(self.l2) if self.l2 else None

        def matrix(name: str) -> tf.Variable:
            return self.add_weight(
                name=name, shape=(dim, dim), initializer="glorot_uniform", regularizer=regularizer
            )

        self._sum, self._product = matrix("sum_kernel"), matrix("product_kernel")
        super().build(input_shape)

    def call(self, states: tf.Tensor, messages: tf.Tensor) -> tf.Tensor:
        """Next states `[N, d]`."""
        # Keras casts the first argument alone to the layer's dtype.
        messages = tf.cast(messages, states.dtype)
        together = tf.matmul(states + messages, tf.cast(self._sum, states.dtype))
        alike = tf.matmul(messages * states, tf.cast(self._product, states.dtype))
        return tf.nn.leaky_relu(together + alike)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "l2": self.l2}
