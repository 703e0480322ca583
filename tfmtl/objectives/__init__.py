"""Losses: per-task cross entropy, task weighting, auxiliary terms."""

from tfmtl.objectives.balanced_loss import balanced_loss
from tfmtl.objectives.build_weighting import WEIGHTINGS, build_weighting
from tfmtl.objectives.cagrad import CAGrad
from tfmtl.objectives.cooperative_loss import cooperative_loss
from tfmtl.objectives.counterfactual_risk import counterfactual_risk
from tfmtl.objectives.dynamic_weight_averaging import DynamicWeightAveraging
from tfmtl.objectives.famo import FAMO
from tfmtl.objectives.grad_norm import GradNorm
from tfmtl.objectives.gradient_weighting import GradientWeighting
from tfmtl.objectives.imtl import IMTL
from tfmtl.objectives.joint_logits import joint_logits
from tfmtl.objectives.joint_targets import joint_targets
from tfmtl.objectives.masked_binary_cross_entropy import masked_binary_cross_entropy
from tfmtl.objectives.mgda import MGDA
from tfmtl.objectives.nash_mtl import NashMTL
from tfmtl.objectives.pcgrad import PCGrad
from tfmtl.objectives.static_weighting import StaticWeighting
from tfmtl.objectives.task_weighting import TaskWeighting
from tfmtl.objectives.uncertainty_weighting import UncertaintyWeighting

__all__ = [
    "FAMO",
    "IMTL",
    "MGDA",
    "WEIGHTINGS",
    "CAGrad",
    "DynamicWeightAveraging",
    "GradNorm",
    "GradientWeighting",
    "NashMTL",
    "PCGrad",
    "StaticWeighting",
    "TaskWeighting",
    "UncertaintyWeighting",
    "balanced_loss",
    "build_weighting",
    "cooperative_loss",
    "counterfactual_risk",
    "joint_logits",
    "joint_targets",
    "masked_binary_cross_entropy",
]
