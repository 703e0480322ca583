import json

import numpy as np
import pytest
import tf_keras as keras

from tfmtl.layers import PerExpertInitializer
from tfmtl.testing import assert_experts_differ


@pytest.mark.parametrize("experts", [1, 8, 64])
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [
        (keras.initializers.GlorotUniform, np.sqrt(2 / (64 + 32))),
        (keras.initializers.HeNormal, np.sqrt(2 / 64)),
    ],
)
def test_deviation_is_that_of_one_kernel(experts, seed, initializer, deviation):
    kernel = PerExpertInitializer(initializer(seed=seed))((experts, 64, 32)).numpy()
    assert kernel.shape == (experts, 64, 32)
    for slice_ in kernel:
        assert slice_.std() == pytest.approx(deviation, rel=0.05)


def test_the_plain_initializer_counts_experts_in_the_fan():
    # The fault that the class is there for: a factor of 2.8 with 8 experts.
    kernel = keras.initializers.GlorotUniform()((8, 64, 32)).numpy()
    assert kernel.std() == pytest.approx(np.sqrt(2 / (64 + 32)) / np.sqrt(8), rel=0.05)


@pytest.mark.parametrize("seed", [None, 0, 1024])
def test_experts_differ(seed):
    initializer = PerExpertInitializer(keras.initializers.GlorotUniform(seed=seed))
    assert_experts_differ(initializer((8, 16, 8)).numpy())


def test_a_seed_repeats_the_draw():
    first, second, other = (
        PerExpertInitializer(keras.initializers.GlorotUniform(seed=seed))((3, 4, 2)).numpy()
        for seed in (5, 5, 90)
    )
    np.testing.assert_array_equal(first, second)
    assert np.all(first != other)


def test_keeps_the_dtype():
    assert PerExpertInitializer("ones")((2, 3), dtype="float64").dtype == "float64"


def test_config_goes_through_json():
    initializer = PerExpertInitializer(keras.initializers.HeNormal(seed=4))
    config = json.loads(json.dumps(keras.initializers.serialize(initializer)))
    again = keras.initializers.deserialize(config)
    assert isinstance(again, PerExpertInitializer)
    np.testing.assert_array_equal(again((2, 5, 3)), initializer((2, 5, 3)))
