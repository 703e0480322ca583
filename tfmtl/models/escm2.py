"""ESCM2: ESMM with a risk that corrects for the choice of the rows a child is observed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.layers.tower import Tower
from tfmtl.models.esmm import ESMM
from tfmtl.models.multi_task_model import Weighting
from tfmtl.objectives.counterfactual_risk import counterfactual_risk
from tfmtl.objectives.joint_logits import joint_logits
from tfmtl.schema import Task

Estimator = Literal["ipw", "dr"]


class ESCM2(ESMM):
    """ESMM's networks; a child also has the error it would have if every parent happened.

    With D the rows of ESMM's joint loss, o = 1 where all parents of the child happened (clicked
    rows), e = BCE(label, pCVR) there, and the propensity p = max(pCTR, `min_propensity`), where
    pCTR is the joint probability of the child's parents, without gradient:

        L^k  = lambda_g BCE(joint label, pCTCVR) + lambda_c R
        R    = mean_D( o e / p )                                              ("ipw")
        R    = mean_D( e' + o (e - e') / p ) + mean_D( o (e - e')^2 / p )     ("dr")

    with the error e' >= 0 imputed by a network of its own on the shared embeddings. Logits are
    those of ESMM, and so is the loss of a task without parent; `lambda_c` = 0 and `lambda_g` = 1
    are ESMM. The reported `<task>_loss` of a child is L^k.

    As e' does not depend on the child's network, that network receives the same gradient from both
    estimators: what `dr` changes is the estimate of the risk and, through the imputation's own
    loss, the shared embeddings.

    Args:
        tasks: The schema's tasks, a parent anywhere in the list.
        inputs: What the encoder emits.
        estimator: `ipw`, inverse propensity weighting, or `dr`, doubly robust.
        embedding_dim: Width of feature embeddings.
        units: Hidden widths of each task's network and of each imputation.
        counterfactual_weight: lambda_c.
        global_weight: lambda_g.
        min_propensity: Smallest propensity; no row counts more than 1 / `min_propensity` times.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared dense kernels.
        l2_embedding: Penalty on the batch's embeddings.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If a task's parent is not among the tasks, the estimator is unknown, a weight
            is negative or `min_propensity` is not in (0, 1].

    References:
        Wang et al., ESCM2: Entire Space Counterfactual Multi-Task Model for Post-Click Conversion
        Rate Estimation (SIGIR 2022): the IPS and DR regularizers and the total loss
        L_CTR + lambda_c L_CVR + lambda_g L_CTCVR.

    Deviations:
        Chains of any length, the propensity of a child being the joint probability of its parents.
        Propensities are clipped, which trades bias for variance. Gradients are stopped as in
        `counterfactual_risk`. e' goes through a softplus, since no cross entropy is negative. A
        task's weight multiplies all of L^k.

    Example:
        >>> import tensorflow as tf
        >>> age = InputSpec("age", "categorical", side="context", vocabulary_size=8, width=1)
        >>> tasks = [Task(name="click"), Task(name="buy", parent="click")]
        >>> model = ESCM2(tasks, [age], estimator="dr")
        >>> sorted(model({"age": tf.constant([1, 2])}))
        ['buy', 'click']
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        estimator: Estimator = "ipw",
        embedding_dim: int = 16,
        units: Sequence[int] = (128, 64, 32),
        counterfactual_weight: float = 0.5,
        global_weight: float = 0.5,
        min_propensity: float = 0.05,
        dropout: float = 0.0,
        l2: float = 0.0,
        l2_embedding: float = 0.0,
        weighting: Weighting = "static",
        **kwargs: Any,
    ):
        super().__init__(
            tasks,
            inputs,
            embedding_dim=embedding_dim,
            units=units,
            dropout=dropout,
            l2=l2,
            l2_embedding=l2_embedding,
            weighting=weighting,
            **kwargs,
        )
        if estimator not in ("ipw", "dr"):
            raise ValueError(f"expected estimator 'ipw' or 'dr'; received {estimator!r}")
        if counterfactual_weight < 0 or global_weight < 0:
            raise ValueError(
                "expected counterfactual_weight and global_weight of at least 0; "
                f"received {counterfactual_weight} and {global_weight}"
            )
        if not 0 < min_propensity <= 1:
            raise ValueError(
                f"expected min_propensity above 0 and at most 1; received {min_propensity}"
            )
        self.counterfactual_weight = float(counterfactual_weight)
        self.global_weight = float(global_weight)
        self.min_propensity = float(min_propensity)
        self.children = tuple(name for name, chain in self.chains.items() if len(chain) > 1)
        self.imputations = {
            name: Tower(units, dropout=dropout, l2=l2, name=f"{name}_imputation")
            for name in self.children
            if estimator == "dr"
        }

    def call(
        self,
        features: Mapping[str, Any],
        training: bool | None = None,
        with_imputed_errors: bool = False,
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task; asked for, imputed errors under `imputed_key(task)`."""
        row = self.row_input(features)
        outputs = {name: self.towers[name](row, training=training) for name in self.task_names}
        if with_imputed_errors:
            for name, imputation in self.imputations.items():
                outputs[imputed_key(name)] = tf.nn.softplus(imputation(row, training=training))
        return outputs

    def loss_inputs(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """The logits and, for `dr`, the imputed errors of the children."""
        return self(features, training=training, with_imputed_errors=True)

    def task_losses(
        self, logits: Mapping[str, tf.Tensor], labels: Mapping, sample_weights: Mapping
    ) -> dict[str, tf.Tensor]:
        """Cross entropy of tasks without parent; L^k of children, scalars."""
        losses = super().task_losses(logits, labels, sample_weights)
        for name in self.children:
            risk = self._risk(name, logits, labels, sample_weights)
            losses[name] = self.global_weight * losses[name] + self.counterfactual_weight * risk
        return losses

    def _risk(
        self, name: str, logits: Mapping[str, tf.Tensor], labels: Mapping, sample_weights: Mapping
    ) -> tf.Tensor:
        parents = self.chains[name][:-1]
        _, weights = self._targets(self.chains[name], labels, sample_weights)
        happened, known = self._targets(parents, labels, sample_weights)
        observed = (known > 0) & (happened == 1) & (weights > 0)
        errors = tf.nn.sigmoid_cross_entropy_with_logits(
            labels=tf.where(observed, tf.cast(labels[name], tf.float32), 0.0),
            logits=tf.where(observed, logits[name], 0.0),
        )
        propensities = tf.sigmoid(joint_logits([logits[parent] for parent in parents]))
        return counterfactual_risk(
            errors,
            observed,
            tf.maximum(propensities, self.min_propensity),
            weights,
            imputed_errors=logits[imputed_key(name)] if self.imputations else None,
        )


def imputed_key(task_name: str) -> str:
    """Key of a child's imputed errors beside the logits; no task name starts with `_`.

    Example:
        >>> imputed_key("buy")
        '_imputed_error/buy'
    """
    return f"_imputed_error/{task_name}"
