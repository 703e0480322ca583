"""IMTL: impartial gradients and impartial losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import tensorflow as tf
import tf_keras as keras

from tfmtl.objectives.gradient_cosines import gradient_cosines
from tfmtl.objectives.gradient_weighting import GradientWeighting
from tfmtl.objectives.within import Within

Kind = Literal["both", "gradient", "loss"]


@keras.utils.register_keras_serializable(package="tfmtl")
class IMTL(GradientWeighting):
    """Impartial multi-task learning.

        gradient (IMTL-G)    d = T sum_k a_k g_k / sum_k |a_k|,    <d, g_k> / |g_k| equal for all
        loss (IMTL-L)        sum_k exp(s_k) L_k - s_k,    s_k learned, s_k(0) = 0

    `gradient` is for what tasks share and leaves their own weights the plain sum of losses. `loss`
    costs no gradients and is for all weights: scaled losses settle at 1. `both` has the scaled
    losses for all weights, and a on what is shared. Both undo a factor on a loss, so that the
    weights of the schema change nothing but that a task of weight 0 is left out.

    a = M^-1 (|g_1|, ..., |g_T|) up to a factor. A task whose gradient the others contain may have a
    negative weight.

    Args:
        weights: Weight of the schema per task name.
        kind: `both`, `gradient` or `loss`.
        limit: Bound on |s_k|, as a loss of .005 would be multiplied by 200.
        **kwargs: Passed to `keras.layers.Layer`.

    Call argument: dict of scalar task losses. Output: scalar; that of scaled losses may be
    negative.

    Raises:
        ValueError: If there is no task, a weight is negative, `kind` is unknown or the limit is not
            positive.

    References:
        Liu et al., Towards Impartial Multi-task Learning (ICLR 2021), IMTL-G and IMTL-L.

    Deviations:
        The bound. The paper divides a by its sum, which may be near 0 or below it; the sum of
        absolute values is the same where no weight is negative. The factor T, with which steps have
        the size of equal weights. Acts on the dense weights that tasks share.

    Example:
        >>> weighting = IMTL({"click": 1.0, "like": 1.0}, kind="gradient")
        >>> losses = {"click": tf.constant(1.0), "like": tf.constant(1.0)}
        >>> # Orthogonal, of lengths 1 and 3: a = (3, 1) / 4.
        >>> weighting.task_weights(losses, tf.constant([[1.0, 0], [0, 9]])).numpy().round(3)
        array([1.5, 0.5], dtype=float32)
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        kind: Kind = "both",
        limit: float = 5.0,
        **kwargs: Any,
    ):
        super().__init__(weights, **kwargs)
        if kind not in ("both", "gradient", "loss"):
            raise ValueError(f"expected kind 'both', 'gradient' or 'loss'; received {kind!r}")
        if limit <= 0:
            raise ValueError(f"expected a limit above 0; received {limit}")
        self.kind: Kind = kind
        self.limit = float(limit)
        self.reads_gradients = kind != "loss"

    def build(self, input_shape: Any) -> None:
        """Creates s, one number per task, where losses are scaled."""
        self.log_scale = None
        if self.kind != "gradient":
            self.log_scale = self.add_weight(
                name="log_scale",
                shape=(len(self.weights_by_task),),
                initializer="zeros",
                constraint=Within(self.limit),
            )
        super().build(input_shape)

    def combination(self, losses: tf.Tensor, gram: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """The weights of one step."""
        cosines, inverse = gradient_cosines(gram, present)
        equal = tf.cast(present, tf.float32)[:, tf.newaxis]
        weights = inverse * tf.linalg.solve(cosines, equal)[:, 0]
        # An answer is as good with the other sign to the equations, but not to the losses.
        number = tf.reduce_sum(equal)
        return number * tf.math.divide_no_nan(weights, tf.reduce_sum(tf.abs(weights)))

    def task_weights(
        self, losses: Mapping[str, tf.Tensor], gram: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The weights of one step, see `TaskWeighting`."""
        if self.reads_gradients:
            return super().task_weights(losses, gram)
        return self.priors * tf.exp(self.log_scale)

    def call(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Sum of scalar losses, scaled unless by gradients alone."""
        if self.log_scale is None:
            return super().call(losses)
        terms = tf.exp(self.log_scale) * self.priors * self.stacked(losses) - self.log_scale
        return tf.reduce_sum(tf.where(self.present(losses), terms, 0.0))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "kind": self.kind, "limit": self.limit}
