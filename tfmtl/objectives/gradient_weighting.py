"""What the weightings of task gradients share."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives.task_weighting import TaskWeighting


@keras.utils.register_keras_serializable(package="tfmtl")
class GradientWeighting(TaskWeighting):
    """Base of the weightings that combine the tasks' gradients on what the tasks share.

        shared weights    d = sum_k w_k p_k g_k,     w from M[i, j] = <p_i g_i, p_j g_j>
        all others        the gradient of sum_k p_k L_k

    A subclass says in `combination` what w is. All that such methods do to gradients are linear
    combinations, for which their inner products are enough: M is the only thing of the size of
    tasks, and nothing of the size of the model is kept. The scalar that the layer's call makes, and
    the model reports as its loss, is sum_k p_k L_k.

    Tasks without a defined row have no gradient and take no part in the combination. Where a
    gradient is not finite, w is 1, so that what is wrong shows in the step and nowhere else.

    Args:
        weights: p_k per task name.
        **kwargs: Passed to `keras.layers.Layer`.

    Call argument: dict of scalar task losses. Output: scalar.

    Example:
        >>> class Shortest(GradientWeighting):
        ...     def combination(self, losses, gram, present):
        ...         return tf.one_hot(tf.argmin(tf.linalg.diag_part(gram)), 2)
        >>> losses = {"click": tf.ones([]), "like": tf.ones([])}
        >>> weighting = Shortest({"click": 1.0, "like": 1.0})
        >>> weighting.task_weights(losses, tf.constant([[4.0, 0], [0, 1]])).numpy().tolist()
        [0.0, 1.0]
    """

    reads_gradients = True

    def combination(self, losses: tf.Tensor, gram: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """The weights w of one step.

        Args:
            losses: p_k L_k, `float32 [T]`.
            gram: M up to a factor that makes its largest diagonal element 1, `float32 [T, T]`;
                finite, and 0 for tasks that are not present.
            present: Tasks that have a gradient, `bool [T]`.

        Returns:
            `float32 [T]`; anything for tasks that are not present.
        """
        raise NotImplementedError

    def task_weights(
        self, losses: Mapping[str, tf.Tensor], gram: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The weights p_k w_k of one step, see `TaskWeighting`.

        Raises:
            ValueError: If there is no Gram matrix.
        """
        if gram is None:
            raise ValueError(
                f"{type(self).__name__} expected the Gram matrix of the tasks' gradients; received "
                "none: train with the model's own train_step, or pass gram="
            )
        priors = self.priors
        gram = tf.cast(gram, tf.float32)
        finite = tf.reduce_all(tf.math.is_finite(gram))
        gram = tf.where(finite, gram * priors * priors[:, tf.newaxis], tf.eye(priors.shape[0]))
        present = self.present(losses) & (tf.linalg.diag_part(gram) > 0)
        gram = tf.where(present & present[:, tf.newaxis], gram, 0.0)
        # Norms of tasks differ by orders of magnitude, and tolerances are absolute.
        gram = tf.math.divide_no_nan(gram, tf.reduce_max(gram))
        combination = self.combination(priors * self.stacked(losses), gram, present)
        combination = tf.where(present, combination, 0.0)
        return priors * tf.where(finite, combination, 1.0)

    def call(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Sum of scalar losses with the tasks' own weights."""
        return tf.reduce_sum(self.priors * self.stacked(losses))
