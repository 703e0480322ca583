"""Work after every step of the optimiser, inside the compiled step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras


def after_each_step(model: keras.Model, hook: Callable[[Mapping[str, tf.Tensor]], None]) -> None:
    """Makes `fit` call `hook` after every step, in its graph: there is no host round trip.

    Args:
        model: A compiled model; `forget_hooks` makes its steps what they were.
        hook: Is given the step's logs; what it assigns to variables is part of the step.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile(loss="mse")
        >>> steps = tf.Variable(0)
        >>> after_each_step(model, lambda logs: steps.assign_add(1))
        >>> _ = model.fit(tf.ones([6, 1]), tf.ones([6, 1]), batch_size=2, verbose=0)
        >>> int(steps)
        3
    """
    inner = model.train_step

    def step(inputs: Any) -> Mapping[str, tf.Tensor]:
        logs = inner(inputs)
        hook(logs)
        return logs

    model.train_step = step
    # The one that Keras has traced makes the step without the hook.
    model.train_function = None


def forget_hooks(model: keras.Model) -> None:
    """Takes the hooks of `after_each_step` off a model.

    Args:
        model: The model.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> after_each_step(model, print)
        >>> forget_hooks(model)
        >>> model.train_step.__name__
        'train_step'
    """
    if "train_step" in vars(model):
        del model.train_step
        model.train_function = None
