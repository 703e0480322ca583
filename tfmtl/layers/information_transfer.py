"""Passes on what one task learned to the next."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class InformationTransfer(keras.layers.Layer):
    """Weighs what comes from the previous task, p, against the task's own state, q.

        w(x) = softmax_{x in {p, q}}( (x W_K).(x W_Q) / sqrt(d) ),    z = w(p) p W_V + w(q) q W_V

    Args:
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: p and q, `float [B, d]` each. Output shape: `float [B, d]`.

    References:
        Xi et al., Modeling the Sequential Dependence among Audience Multi-step Conversions with
        Multi-task Learning in Targeted Display Advertising (KDD 2021), the AIT module.

    Deviations:
        The softmax is in float32 under any policy.

    Example:
        >>> import tensorflow as tf
        >>> InformationTransfer()(tf.ones([3, 8]), tf.zeros([3, 8])).shape
        TensorShape([3, 8])
    """

    def __init__(self, *, l2: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates W_K, W_Q and W_V for states of `input_shape` `[B, d]`."""
        dim = int(tf.TensorShape(input_shape)[-1])

        def matrix(name: str) -> tf.Variable:
            return self.add_weight(
                name=name,
                shape=(dim, dim),
                initializer="glorot_uniform",
                regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            )

        self._key, self._query, self._value = matrix("key"), matrix("query"), matrix("value")
        super().build(input_shape)

    def call(self, transferred: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
        """Maps p and q, `[B, d]` each, to z `[B, d]`."""
        # Keras casts the first argument alone to the layer's dtype.
        states = tf.stack([transferred, tf.cast(own, transferred.dtype)], axis=1)
        keys, queries, values = (
            tf.einsum("bxi,io->bxo", states, tf.cast(kernel, states.dtype))
            for kernel in (self._key, self._query, self._value)
        )
        # Products of half-precision numbers overflow when summed over d.
        products = tf.cast(keys, tf.float32) * tf.cast(queries, tf.float32)
        scores = tf.reduce_sum(products, axis=-1) * states.shape[-1] ** -0.5
        weights = tf.cast(tf.nn.softmax(scores, axis=1), values.dtype)
        return tf.einsum("bx,bxo->bo", weights, values)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "l2": self.l2}
