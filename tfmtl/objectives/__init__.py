"""Losses: per-task cross entropy, task weighting, auxiliary terms."""

from tfmtl.objectives.balanced_loss import balanced_loss
from tfmtl.objectives.cooperative_loss import cooperative_loss
from tfmtl.objectives.counterfactual_risk import counterfactual_risk
from tfmtl.objectives.joint_logits import joint_logits
from tfmtl.objectives.joint_targets import joint_targets
from tfmtl.objectives.masked_binary_cross_entropy import masked_binary_cross_entropy
from tfmtl.objectives.static_weighting import StaticWeighting
from tfmtl.objectives.uncertainty_weighting import UncertaintyWeighting

__all__ = [
    "StaticWeighting",
    "UncertaintyWeighting",
    "balanced_loss",
    "cooperative_loss",
    "counterfactual_risk",
    "joint_logits",
    "joint_targets",
    "masked_binary_cross_entropy",
]
