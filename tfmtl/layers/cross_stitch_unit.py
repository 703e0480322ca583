"""Linear mixture of the tasks' activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class CrossStitchUnit(keras.layers.Layer):
    """h~^t = sum_s alpha_ts h^s for the tasks' activations h^s of one layer.

    alpha starts at 0.9 for a task's own activations and at 0.1 / (T - 1) for those of each other
    task, so that activations keep their scale; a single task starts at 1.

    Shapes: B batch, T tasks, D width of the layer.

    Args:
        per_channel: One alpha_ts for each of the D activations; else one for all of them.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [B, T, D]`. Output shape: `float [B, T, D]`.

    Raises:
        ValueError: If the number of tasks or the width of the input is unknown.

    References:
        Misra et al., Cross-stitch Networks for Multi-task Learning (CVPR 2016), equation 1.

    Example:
        >>> import tensorflow as tf
        >>> CrossStitchUnit()(tf.constant([[[10.0], [20.0]]])).numpy().round(4).tolist()
        [[[11.0], [19.0]]]
    """

    def __init__(self, *, per_channel: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.per_channel = bool(per_channel)

    def build(self, input_shape: Any) -> None:
        """Creates alpha `[T, T]`, or `[T, T, D]` per channel."""
        shape = tf.TensorShape(input_shape)
        if shape.rank != 3 or not shape[1:].is_fully_defined():
            raise ValueError(
                f"expected inputs [B, T, D] of known T and D; received {shape}: stack the tasks' "
                "activations on axis 1"
            )
        tasks, width = shape[1:].as_list()
        self.alpha = self.add_weight(
            name="alpha",
            shape=(tasks, tasks, width) if self.per_channel else (tasks, tasks),
            initializer=_mostly_own,
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps `[B, T, D]` to `[B, T, D]`."""
        equation = "tsd,bsd->btd" if self.per_channel else "ts,bsd->btd"
        return tf.einsum(equation, tf.cast(self.alpha, inputs.dtype), inputs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "per_channel": self.per_channel}


def _mostly_own(shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
    tasks, _, *channels = tf.TensorShape(shape).as_list()
    own = 0.9 if tasks > 1 else 1.0
    alpha = np.full([tasks, tasks], (1 - own) / max(tasks - 1, 1))
    np.fill_diagonal(alpha, own)
    return tf.constant(
        np.broadcast_to(alpha.reshape([tasks, tasks] + [1] * len(channels)), shape), dtype
    )
