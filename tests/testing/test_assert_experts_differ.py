import numpy as np
import pytest

from tfmtl.testing import assert_experts_differ


def test_accepts_independent_kernels():
    kernels = np.random.default_rng(2).normal(size=[5, 12, 7])
    assert_experts_differ(kernels)
    assert_experts_differ(list(kernels), least=1.1)


def test_names_the_closest_pair():
    # Kernels (3, 4), (0, 5) and (3, 4.5): the first and last are 0.5 apart, with mean norm 5.2.
    with pytest.raises(AssertionError, match=r"experts 0 and 2 are 0\.096 of their norm apart"):
        assert_experts_differ([[3, 4], [0, 5], [3, 4.5]])


def test_measures_against_the_norm():
    # Distance 4 at norms 5 and 5 is 0.8; the same kernels ten times as large are as far apart.
    for scale in (1, 10):
        kernels = scale * np.array([[3.0, 4.0], [3.0, -4.0]])
        assert_experts_differ(kernels, least=1.5)
        with pytest.raises(AssertionError, match=r"1\.600 of their norm apart; expected more"):
            assert_experts_differ(kernels, least=1.7)


def test_refuses_constants_and_single_experts():
    with pytest.raises(AssertionError, match=r"0\.000 of their norm apart"):
        assert_experts_differ(np.ones([2, 3, 3]))
    with pytest.raises(AssertionError, match="finite and not zero; received norms"):
        assert_experts_differ(np.zeros([2, 3]))
    with pytest.raises(AssertionError, match="at least two experts; received 1"):
        assert_experts_differ(np.ones([1, 3]))
