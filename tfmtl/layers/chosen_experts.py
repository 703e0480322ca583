"""The few experts of a routed bank that one decision needs."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.routed_experts import RoutedExperts


class ChosenExperts(tf.Module):
    """A copy of k experts of a bank with fixed weights, for rows that all visit the same ones.

        MoE(x) = sum_{e in chosen} p_e Expert_e(x)

    Nothing is sorted or routed, and the other experts are not part of what is saved.

    Args:
        bank: A built bank.
        experts: The experts chosen, `int [k]`.
        weights: What each counts, `float [k]`.

    Example:
        >>> bank = RoutedExperts(8, [4, 4])
        >>> bank.build([None, 4])
        >>> chosen = ChosenExperts(bank, tf.constant([5]), tf.constant([0.9]))
        >>> chosen(tf.ones([2, 4])).shape, chosen.variables[0].shape
        (TensorShape([2, 4]), TensorShape([1, 4, 4]))
    """

    def __init__(self, bank: RoutedExperts, experts: tf.Tensor, weights: tf.Tensor):
        super().__init__(name="chosen_experts")
        self._activation = keras.activations.get(bank.activation)
        self._kernels, self._biases = (
            [tf.Variable(tf.gather(stacked, experts), trainable=False) for stacked in variables]
            for variables in (bank.kernels, bank.biases)
        )
        self._weights = tf.Variable(weights, trainable=False)

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps tokens `[..., D]` to `[..., H]`."""
        tokens = tf.reshape(inputs, [1, -1, inputs.shape[-1]])
        for number, kernel in enumerate(self._kernels):
            if number:
                tokens = self._activation(tokens)
            tokens = tf.matmul(tokens, tf.cast(kernel, tokens.dtype))
            if self._biases:
                tokens += tf.cast(self._biases[number], tokens.dtype)[:, tf.newaxis]
        outputs = tf.einsum("k,knh->nh", tf.cast(self._weights, tokens.dtype), tokens)
        shape = tf.concat([tf.shape(inputs)[:-1], [outputs.shape[-1]]], axis=0)
        return tf.ensure_shape(tf.reshape(outputs, shape), [*inputs.shape[:-1], outputs.shape[-1]])
