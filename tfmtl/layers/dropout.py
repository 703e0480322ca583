"""Dropout whose masks are the same in a resumed run."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.random_generator import random_generator


@keras.utils.register_keras_serializable(package="tfmtl")
class Dropout(keras.layers.Layer):
    """Sets a share of the activations to zero in training and scales up the others.

    As `keras.layers.Dropout`, but checkpoints hold the state of the generator: a run that was
    interrupted and resumed draws the masks of an uninterrupted one.

    Args:
        rate: Share of activations dropped, from 0 to below 1.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If `rate` is out of range.

    References:
        Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR
        2014.

    Example:
        >>> dropped = Dropout(0.5)(tf.ones([100, 10]), training=True)
        >>> sorted(set(dropped.numpy().ravel().tolist()))
        [0.0, 2.0]
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = float(rate)
        if not 0 <= self.rate < 1:
            raise ValueError(f"expected dropout from 0 to below 1; received {rate}")

    def build(self, input_shape: Any) -> None:
        """Seeds the generator."""
        if self.rate:
            self._generator = random_generator()
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps any shape to itself."""
        if not (training and self.rate):
            return inputs
        seed = self._generator.make_seeds()[:, 0]
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, seed=seed)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate}
