"""How models start: neurons and experts that begin alike may stay alike for good."""

import collections
import math

import numpy as np
import pytest

from tfmtl.testing import assert_experts_differ

STACKED = [
    "cross_stitch",
    "omoe",
    "mmoe",
    "snr_trans",
    "cgc",
    "ple",
    "stem",
    "home",
    "grec",
    "mogenet",
]


def matrices(model):
    """Drawn weights by name: matrices `[in, out]`, or stacks of them."""
    found = {}
    for weight in model.trainable_weights:
        last = weight.name.split("/")[-1].split(":")[0]
        if "kernel" in last or last in ("query", "key", "value", "table"):
            found[weight.name] = weight.numpy()
    return found


def test_no_two_neurons_start_alike(name, build):
    """Constant initial weights give every neuron of a layer the same gradient for ever."""
    found = matrices(build(name))
    assert found
    for weight, values in found.items():
        for kernel in values.reshape(-1, *values.shape[-2:]):
            assert len(np.unique(kernel, axis=1).T) == kernel.shape[1], weight


@pytest.mark.parametrize(
    "name",
    [*STACKED, "single_task", "shared_bottom", "esmm", "aitm", "ngcf", "macgnn", "mgoe"],
)
def test_no_two_networks_start_alike(name, build):
    """One seed handed to every expert, gate or tower makes copies, which training hardly parts."""
    alike = collections.defaultdict(list)
    for values in matrices(build(name)).values():
        alike[values.shape[-2:]].extend(values.reshape(-1, *values.shape[-2:]))
    groups = [group for group in alike.values() if len(group) > 1]
    assert groups
    for group in groups:
        # The last layer of a small tower has four numbers, which chance may bring close.
        assert_experts_differ(group, least=0.1)


@pytest.mark.parametrize("name", STACKED)
def test_stacked_kernels_are_as_large_as_single_ones(name, build):
    """An initialiser that counts the expert axis in the fan draws from a narrower interval."""
    stacks = {key: values for key, values in matrices(build(name)).items() if values.ndim > 2}
    several = {key: values for key, values in stacks.items() if math.prod(values.shape[:-2]) > 1}
    assert several
    for key, values in several.items():
        # Glorot: uniform within sqrt(6 / (in + out)). Of 40 draws and more the largest is beyond
        # 0.8 of that; a fan that counts two experts would end at 0.71.
        limit = math.sqrt(6 / sum(values.shape[-2:]))
        assert values.size >= 40
        assert 0.8 * limit < np.abs(values).max() <= limit * (1 + 1e-6), key
