"""A moving average of the weights beside those that are trained."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from tfmtl.training.step_hook import after_each_step


class WeightAverage(keras.callbacks.Callback):
    """Keeps an exponential moving average of the trainable weights.

        a_0 = w_0,    a_t = m a_{t-1} + (1 - m) w_t

    for the weights w_t after step t. At the end of an epoch the two change places, so that
    callbacks after this one see a model with the averages for weights; the last one calls `swap`
    to go on with those that are trained. A step costs a pass over all weights, tables included.

    Args:
        momentum: m, between 0 and 1.

    Raises:
        ValueError: If `momentum` is not between 0 and 1.

    References:
        Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging (SIAM Journal on
        Control and Optimization 30(4), 1992).

    Deviations:
        An exponential average, which forgets the first steps, not the mean of all.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1, "linear", False, "ones")])
        >>> model.build([None, 1])
        >>> model.compile(keras.optimizers.SGD(0.25), loss="mse")
        >>> average = WeightAverage(0.75)
        >>> average.set_model(model)
        >>> _ = model.fit(tf.ones([1, 1]), tf.zeros([1, 1]), verbose=0)
        >>> [part.numpy().item() for part in (model.weights[0], average.averages[0])]
        [0.5, 0.875]
    """

    def __init__(self, momentum: float):
        super().__init__()
        if not 0 < momentum < 1:
            raise ValueError(f"expected momentum between 0 and 1; received {momentum}")
        self.momentum = momentum
        self.averages: list[tf.Variable] = []

    def set_model(self, model: keras.Model) -> None:
        """Starts at the weights of a compiled model."""
        if self.model is model:
            return
        super().set_model(model)
        strategy = tf.distribute.get_strategy()
        for number, weight in enumerate(model.trainable_weights):
            # A part of a table that servers share must not be shared out again.
            with strategy.extended.colocate_vars_with(weight):
                average = tf.Variable(
                    weight,
                    dtype=weight.dtype,
                    trainable=False,
                    name=f"average/{number}",
                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                )
            self.averages.append(average)
        after_each_step(model, self._update)

    def _update(self, logs: Mapping[str, tf.Tensor]) -> None:
        del logs
        for average, weight in zip(self.averages, self.model.trainable_weights, strict=True):
            average.assign(self.momentum * average + (1 - self.momentum) * weight)

    def swap(self) -> None:
        """Exchanges weights and averages."""
        for average, weight in zip(self.averages, self.model.trainable_weights, strict=True):
            trained = weight.numpy()
            weight.assign(average)
            average.assign(trained)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Gives the model the averages for weights."""
        del epoch, logs
        self.swap()
