"""Initialises stacked expert kernels one expert at a time."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class PerExpertInitializer(keras.initializers.Initializer):
    """Draws each slice of a stacked kernel `[E, D, H]` as a kernel `[D, H]` of its own.

    A fan-based initialiser given the stacked shape counts E in the fan and draws kernels that are
    too small by a factor of sqrt(E); one seed given to every expert makes them identical. Here each
    expert has its own fan and its own draw.

    Args:
        initializer: Initialiser of one kernel, as Keras accepts it.

    Example:
        >>> kernel = PerExpertInitializer("glorot_uniform")((3, 64, 32))
        >>> kernel.shape
        TensorShape([3, 64, 32])
    """

    def __init__(self, initializer: Any = "glorot_uniform"):
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        """Returns `[E, ...]` weights for the stacked `shape`."""
        experts, *rest = tf.TensorShape(shape).as_list()
        config = self.initializer.get_config()
        slices = []
        for expert in range(experts):
            own = dict(config)
            if own.get("seed") is not None:
                own["seed"] += expert
            initializer = type(self.initializer).from_config(own)
            slices.append(initializer(rest, dtype=dtype, **kwargs))
        return tf.stack(slices)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"initializer": keras.initializers.serialize(self.initializer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PerExpertInitializer:
        """Rebuilds the initialiser from `get_config`."""
        return cls(keras.initializers.deserialize(config["initializer"]))
