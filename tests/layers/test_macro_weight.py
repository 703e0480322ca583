import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import MacroWeight
from tfmtl.testing import run_layer_test

GOLDEN = {
    # 1, 4 and 8 of 13.
    1.0: [0.0769, 0.3077, 0.6154],
    1.3: [0.1129, 0.3280, 0.5591],
    1.9: [0.1650, 0.3422, 0.4928],
}


def logs(*counts):
    return tf.math.log1p(tf.constant([counts], tf.float32))


@pytest.mark.parametrize("tau", GOLDEN)
def test_golden(tau):
    received = MacroWeight(tau=tau, mask_padding=False)(logs(0, 3, 7))
    np.testing.assert_allclose(received, [GOLDEN[tau]], atol=5e-5)


@pytest.mark.parametrize("tau", GOLDEN)
@pytest.mark.parametrize("padding", [0, 1000])
def test_padding_has_no_weight(tau, padding):
    received = MacroWeight(tau=tau)(logs(padding, 0, 3, 7))
    np.testing.assert_allclose(received, [[0, *GOLDEN[tau]]], atol=5e-5)
    assert float(received[0, 0]) == 0


def test_a_row_without_edges_weighs_all_nodes_alike():
    np.testing.assert_allclose(MacroWeight()(logs(0, 0, 0, 0, 0)), [[0, *[0.25] * 4]])


def test_strengths_keep_their_digits_under_a_half_policy():
    # log 50001 is 10.8198; half precision has steps of 2^-7 there, a weight of them 0.6 percent.
    strengths = logs(0, 50_000, 50_100)
    received = MacroWeight(tau=1.0, dtype="mixed_float16")(strengths)
    assert received.dtype == tf.float32
    np.testing.assert_allclose(received, [[0, 50_001 / 100_102, 50_101 / 100_102]], rtol=1e-6)


@pytest.mark.parametrize("mask_padding", [False, True])
def test_as_a_layer(mask_padding):
    inputs = tf.constant(np.random.default_rng(3).uniform(0, 5, [4, 6]), tf.float32)
    outputs = run_layer_test(lambda: MacroWeight(tau=0.7, mask_padding=mask_padding), inputs)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("tau", [0, -1.3, float("nan")])
def test_refuses_no_temperature(tau):
    with pytest.raises(ValueError, match=f"expected a positive tau; received {tau}: take a small"):
        MacroWeight(tau=tau)
