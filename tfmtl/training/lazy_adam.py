"""Adam that touches no row of a table which the batch does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.compiled_or_gpu import under_xla


@keras.utils.register_keras_serializable(package="tfmtl")
class LazyAdam(keras.optimizers.Adam):
    """Adam whose step costs what the batch looks up, however large the tables are.

        m_r <- beta_1 m_r + (1 - beta_1) g_r,    v_r <- beta_2 v_r + (1 - beta_2) g_r^2
        w_r <- w_r - lr sqrt(1 - beta_2^t) / (1 - beta_1^t) m_r / (sqrt(v_r) + epsilon)

    for the rows r that have a gradient; Keras' Adam makes this step on all rows of a table,
    whatever the batch, and moves rows of old gradients on by their momentum. Variables with dense
    gradients are updated as by Adam.

    Both moments of a row lie side by side in one slot, so that a row costs one read and one write
    of memory beside its own.

    Args:
        learning_rate: lr, a number or a schedule.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the root of the second moment.
        **kwargs: Passed to `keras.optimizers.Adam`, such as `global_clipnorm`.

    Raises:
        ValueError: If `amsgrad` or `weight_decay` is asked for, which move all rows.

    References:
        Kingma and Ba, Adam: A Method for Stochastic Optimization (ICLR 2015), section 2.

    Deviations:
        Moments of rows without a gradient do not decay, and the correction of their bias counts
        all steps, not those on which the row had a gradient.

    Example:
        >>> table = tf.Variable([[1.0], [1.0]])
        >>> gradient = tf.IndexedSlices(tf.constant([[2.0]]), tf.constant([1]), tf.constant([2, 1]))
        >>> optimizer = LazyAdam(0.5, epsilon=0.0)
        >>> _ = optimizer.apply_gradients([(gradient, table)])
        >>> table.numpy().tolist()  # a first step is lr, whatever the gradient's size
        [[1.0], [0.5]]
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ):
        if kwargs.get("amsgrad") or kwargs.get("weight_decay"):
            raise ValueError(
                "LazyAdam leaves rows without a gradient alone; received "
                f"amsgrad={kwargs.get('amsgrad')}, weight_decay={kwargs.get('weight_decay')}: take "
                "'adam' or 'adamw', or penalise the batch's embeddings with l2_embedding"
            )
        kwargs = {"name": "lazy_adam", **kwargs}
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the slots `[..., 2, D]` of variables `[..., D]`."""
        # Past Adam's own, which would make two slots of each.
        super(keras.optimizers.Adam, self).build(var_list)
        if getattr(self, "_built", False):
            return
        self._built = True
        self._moments = [
            self.add_variable_from_reference(
                variable, "moments", shape=_stacked_shape(variable.shape)
            )
            for variable in var_list
        ]

    def update_step(self, gradient: Any, variable: tf.Variable) -> None:
        """One step on one variable."""
        moments = self._moments[self._index_dict[self._var_key(variable)]]
        dtype, axis = variable.dtype, _axis(variable.shape)
        step = tf.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = tf.cast(self.beta_1, dtype), tf.cast(self.beta_2, dtype)
        unbiased = tf.sqrt(1 - tf.pow(beta_2, step)) / (1 - tf.pow(beta_1, step))
        rate = unbiased * tf.cast(self.learning_rate, dtype)
        # Shaped to be multiplied with the two moments, side by side.
        share = tf.stack([1 - beta_1, 1 - beta_2])
        share = tf.reshape(share, [2] + [1] * (variable.shape.rank - axis))
        sparse = isinstance(gradient, tf.IndexedSlices)
        values = gradient.values if sparse else gradient
        before = tf.gather(moments, gradient.indices) if sparse else moments
        after = before + (tf.stack([values, tf.square(values)], axis=axis) - before) * share
        first, second = tf.unstack(after, axis=axis)
        change = rate * first / (tf.sqrt(second) + self.epsilon)
        if sparse:
            moments.scatter_update(tf.IndexedSlices(after, gradient.indices))
            # On a CPU reading and writing rows is faster than subtracting from them in place.
            rows = tf.gather(variable, gradient.indices) - change
            variable.scatter_update(tf.IndexedSlices(rows, gradient.indices))
        else:
            moments.assign(after)
            variable.assign_sub(change)

    def _deduplicate_sparse_grad(self, grads: Sequence[Any]) -> list[Any]:
        """Sums the gradients of rows that a batch looks up more than once."""
        if not under_xla():
            return super()._deduplicate_sparse_grad(grads)
        return [
            _summed_by_row(grad) if isinstance(grad, tf.IndexedSlices) else grad for grad in grads
        ]


def _axis(shape: tf.TensorShape) -> int:
    return max(shape.rank - 1, 0)


def _stacked_shape(shape: tf.TensorShape) -> list[int]:
    axis = _axis(shape)
    return [*shape[:axis], 2, *shape[axis:]]


def _summed_by_row(slices: tf.IndexedSlices) -> tf.IndexedSlices:
    """One slice per row, as many slices as before: XLA needs to know how many.

    The surplus points behind the table's end, where XLA reads the last row and drops writes.
    """
    order = tf.argsort(slices.indices, stable=True)
    rows = tf.gather(slices.indices, order)
    is_first = tf.concat([[True], rows[1:] != rows[:-1]], axis=0)
    place = tf.cumsum(tf.cast(is_first, tf.int32)) - 1
    size = tf.shape(rows)[0]
    values = tf.math.unsorted_segment_sum(tf.gather(slices.values, order), place, size)
    behind = tf.cast(slices.dense_shape[0], rows.dtype)
    first = tf.math.unsorted_segment_min(rows, place, size)
    used = tf.range(size) < place[-1] + 1
    return tf.IndexedSlices(values, tf.where(used, first, behind), slices.dense_shape)
