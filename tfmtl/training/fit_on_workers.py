"""Training on the workers of a parameter server cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.models.multi_task_model import MultiTaskModel
from tfmtl.training.shared_batches import SharedBatches

# Steps handed out ahead, so that a worker finds one when it is done with the one before.
_AHEAD = 64


def fit_on_workers(
    model: MultiTaskModel,
    coordinator: Any,
    batches: SharedBatches,
    *,
    epochs: int,
    initial_epoch: int = 0,
    first_step: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """What `fit` does, with every step of an epoch handed to whichever worker is free.

    Every step of an epoch is made once. Workers do not wait for one another: a step starts from
    weights that may miss the steps under way elsewhere. An epoch ends when all its steps are made.
    A step whose worker dies is made again by another; what it had sent to the servers before stays.

    Args:
        model: A compiled model, made in the strategy's scope.
        coordinator: The `tf.distribute.coordinator.ClusterCoordinator`.
        batches: The batches; the workers have their own under the same names.
        epochs: Epoch to end with, counted from 1.
        initial_epoch: Epoch to begin with, counted from 0.
        first_step: Steps that the first epoch has behind it.
        callbacks: Keras callbacks; they run here. A batch ends for them when its step is handed
            out, up to 64 steps before it is made.

    Example:
        >>> fit_on_workers(None, None, None, epochs=0)
    """
    if initial_epoch >= epochs:
        return
    strategy = coordinator.strategy

    @tf.function
    def step_of(epoch: tf.Tensor, step: tf.Tensor) -> None:
        strategy.run(model.train_step, args=(batches.function(epoch, step),))

    listed = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs)
    model.stop_training = False
    listed.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        steps = batches.steps - first_step
        listed.set_params({"epochs": epochs, "steps": steps, "verbose": 0})
        model.reset_metrics()
        listed.on_epoch_begin(epoch)
        under_way: deque[Any] = deque()
        for number in range(steps):
            listed.on_train_batch_begin(number)
            place = tf.constant(epoch, tf.int64), tf.constant(first_step + number, tf.int64)
            under_way.append(coordinator.schedule(step_of, args=place))
            if len(under_way) > _AHEAD:
                under_way.popleft().get()
            if number + 1 == steps:
                coordinator.join()
            listed.on_train_batch_end(number)
        logs = {metric.name: float(metric.result()) for metric in model.metrics}
        model.weighting.end_epoch()
        listed.on_epoch_end(epoch, logs)
        first_step = 0
        if model.stop_training:
            break
    listed.on_train_end()
