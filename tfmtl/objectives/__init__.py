"""Losses: per-task cross entropy, task weighting, auxiliary terms."""

from tfmtl.objectives.cooperative_loss import cooperative_loss
from tfmtl.objectives.masked_binary_cross_entropy import masked_binary_cross_entropy
from tfmtl.objectives.static_weighting import StaticWeighting
from tfmtl.objectives.uncertainty_weighting import UncertaintyWeighting

__all__ = [
    "StaticWeighting",
    "UncertaintyWeighting",
    "cooperative_loss",
    "masked_binary_cross_entropy",
]
