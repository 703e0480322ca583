"""Checks for one's own layers and models: what every layer of the package is tested with."""

from tfmtl.testing.assert_experts_differ import assert_experts_differ
from tfmtl.testing.assert_gradients_reach_every_weight import assert_gradients_reach_every_weight
from tfmtl.testing.run_layer_test import run_layer_test

__all__ = [
    "assert_experts_differ",
    "assert_gradients_reach_every_weight",
    "run_layer_test",
]
