import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.layers import SubNetworkRouting
from tfmtl.testing import assert_experts_differ, run_layer_test

LN3 = math.log(3)
# P(z > 0) at log alpha = 0: sigmoid(2/3 ln 11) = 11^(2/3) / (1 + 11^(2/3)).
OPEN = 11 ** (2 / 3) / (1 + 11 ** (2 / 3))


def routing(num_inputs, width, num_outputs, units, kernel=None, log_alpha=None, **options):
    layer = SubNetworkRouting(num_outputs, units, **options)
    layer.build([None, num_inputs, width])
    for weight, values in ((layer.kernel, kernel), (layer.log_alpha, log_alpha)):
        if values is not None:
            weight.assign(np.reshape(values, weight.shape))
    return layer


def test_gates_of_inference():
    # sigmoid 3/4, 1/2, 1/4 give 1.2 sigmoid - 0.1 = 0.8, 0.5, 0.2; beyond 11/12 and 1/12 it is
    # clipped.
    layer = routing(5, 1, 1, 1, log_alpha=[LN3, 0, -LN3, 3, -3])
    for _ in range(2):
        received = layer.gates(training=False)
        np.testing.assert_allclose(received[:, 0], [0.8, 0.5, 0.2, 1, 0], rtol=1e-6)
        assert received.dtype == tf.float32


def test_golden():
    # v = [1, 2], [10, 20]; W_00 v_0 = 1 + 2, W_01 v_0 = 3 - 2, W_10 v_1 = 20, W_11 v_1 = 10 + 10.
    # u_0 = 0.8 * 3 + 0.2 * 20 = 6.4, u_1 = 0.5 * 1 + 1 * 20 = 20.5.
    kernel = [[[[1], [1]], [[3], [-1]]], [[[0], [1]], [[1], [0.5]]]]
    layer = routing(2, 2, 2, 1, kernel, [[LN3, 0], [-LN3, 9]])
    received = layer(tf.constant([[[1.0, 2.0], [10.0, 20.0]]]))
    np.testing.assert_allclose(received, [[[6.4], [20.5]]], rtol=1e-6)


def test_equals_a_loop_over_connections():
    rng = np.random.default_rng(0)
    kernel, log_alpha = rng.normal(size=[3, 4, 5, 2]), rng.normal(size=[3, 4])
    inputs = rng.normal(size=[7, 3, 5])
    expected = np.zeros([7, 4, 2])
    for i in range(3):
        for j in range(4):
            gate = np.clip(1.2 / (1 + np.exp(-log_alpha[i, j])) - 0.1, 0, 1)
            expected[:, j] += gate * (inputs[:, i] @ kernel[i, j])
    layer = routing(3, 5, 4, 2, kernel, log_alpha)
    np.testing.assert_allclose(layer(tf.constant(inputs, tf.float32)), expected, atol=1e-5)


def test_draws_have_the_hard_concrete_distribution():
    keras.utils.set_random_seed(5)
    for shift in (-1.0, 0.0, 2.0):
        layer = routing(10, 1, 10, 1, log_alpha=np.full([10, 10], shift))
        draws = np.stack([layer.gates(training=True) for _ in range(400)])
        # z <= t when log(a / (1 - a)) <= beta log(s / (1 - s)) - log alpha, s = (t + 0.1) / 1.2.
        for threshold in (0.0, 0.3, 0.8, 1 - 1e-6):
            s = (threshold + 0.1) / 1.2
            expected = 1 / (1 + math.exp(shift - 2 / 3 * math.log(s / (1 - s))))
            assert np.mean(draws <= threshold) == pytest.approx(expected, abs=0.01)
        assert draws.min() == 0
        assert draws.max() == 1


def test_draws_are_new_in_every_call_and_repeat_with_the_seed():
    inputs = tf.ones([2, 4, 3])

    def draws(compiled):
        keras.utils.set_random_seed(3)
        layer = routing(4, 3, 5, 2)
        call = tf.function(layer) if compiled else layer
        return [call(inputs, training=True).numpy() for _ in range(2)]

    for compiled in (False, True):
        received = draws(compiled)
        np.testing.assert_array_equal(received, draws(compiled))
        assert not np.array_equal(*received)


def test_a_checkpoint_holds_where_the_draws_are(tmp_path):
    layer, other = (routing(4, 3, 5, 2) for _ in range(2))
    path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / "checkpoint"))
    expected = layer.gates(training=True)
    assert (other.gates(training=True).numpy() != expected.numpy()).any()
    tf.train.Checkpoint(layer=other).restore(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(other.gates(training=True), expected)


def test_a_draw_is_the_same_for_all_rows():
    received = routing(4, 3, 5, 2)(tf.ones([2, 4, 3]), training=True).numpy()
    np.testing.assert_allclose(received[0], received[1], rtol=1e-6)


def test_gates_that_are_not_stochastic_are_the_same_in_training():
    layer = routing(4, 3, 5, 2, stochastic=False)
    inputs = tf.ones([2, 4, 3])
    np.testing.assert_array_equal(layer(inputs, training=True), layer(inputs, training=False))


def test_penalty_is_the_expected_number_of_open_connections():
    # log alpha 2/3 ln(k/11) gives sigmoid(2/3 ln k): 1/2 for k = 1.
    layer = routing(1, 1, 3, 1, log_alpha=[0, -2 / 3 * math.log(11), -99], l0=0.1)
    assert float(layer.expected_connections()) == pytest.approx(OPEN + 0.5)
    layer(tf.ones([2, 1, 1]))
    assert [float(loss) for loss in layer.losses] == [pytest.approx(0.1 * (OPEN + 0.5))]
    assert routing(1, 1, 3, 1).losses == []


def test_expected_connections_are_those_of_the_draws():
    keras.utils.set_random_seed(6)
    layer = routing(10, 1, 10, 1, log_alpha=np.linspace(-4, 4, 100))
    opened = np.mean([np.count_nonzero(layer.gates(training=True)) for _ in range(400)])
    assert float(layer.expected_connections()) == pytest.approx(opened, rel=0.01)


def test_penalties_close_connections_that_help_nothing():
    # Only input 0 bears on the output.
    keras.utils.set_random_seed(0)
    layer = routing(2, 1, 1, 1, kernel=[1, 0.1], l0=0.05)
    inputs = tf.constant(np.random.default_rng(0).normal(size=[64, 2, 1]), tf.float32)
    optimizer = keras.optimizers.Adam(0.1)
    for _ in range(150):
        with tf.GradientTape() as tape:
            error = layer(inputs, training=True)[:, 0] - inputs[:, 0]
            loss = tf.reduce_mean(tf.square(error)) + tf.add_n(layer.losses)
        weights = layer.trainable_weights
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
    needed, useless = layer.gates().numpy()[:, 0]
    assert needed > 0.9
    assert useless == 0


def test_a_closed_connection_passes_nothing_back():
    layer = routing(2, 3, 1, 2, log_alpha=[-5, 0])
    inputs = tf.Variable(tf.ones([4, 2, 3]))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(inputs)))
    gradient = tape.gradient(loss, inputs).numpy()
    assert np.all(gradient[:, 0] == 0)
    assert np.all(gradient[:, 1] != 0)


def test_gates_are_in_full_precision_under_a_half_policy():
    class Recorded(SubNetworkRouting):
        def gates(self, training=None):
            self.seen = super().gates(training)
            return self.seen

    layer = Recorded(1, 1, dtype="mixed_float16", l0=1.0)
    layer.build([None, 1, 1])
    # 0.5 + 1e-4 is 0.5 in half precision: small steps would be lost.
    layer.log_alpha.assign([[0.5 + 1e-4]])
    assert layer(tf.ones([1, 1, 1])).dtype == tf.float16
    assert (layer.seen.dtype, layer.losses[0].dtype) == (tf.float32, tf.float32)
    expected = 1.2 / (1 + math.exp(-0.5 - 1e-4)) - 0.1
    assert float(layer.seen[0, 0]) == pytest.approx(expected, rel=1e-6)


def test_draws_keep_gradients_finite():
    layer = routing(50, 2, 50, 2, l0=0.1)
    for shift in (-30.0, 0.0, 30.0):
        layer.log_alpha.assign(tf.fill([50, 50], shift))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(tf.ones([3, 50, 2]), training=True)) + layer.losses[0]
        for gradient in tape.gradient(loss, layer.trainable_weights):
            assert np.all(np.isfinite(gradient))


def test_matrices_differ_and_have_the_deviation_of_a_single_one():
    layer = routing(4, 64, 3, 32)
    kernels = layer.kernel.numpy()
    assert_experts_differ(kernels.reshape(12, 64, 32))
    # Glorot uniform of a [64, 32] kernel: sqrt(2 / 96).
    assert kernels.std() == pytest.approx(np.sqrt(2 / 96), rel=0.05)


def test_compiles_with_xla():
    layer = routing(4, 3, 5, 2, l0=0.1)
    inputs = tf.ones([2, 4, 3])
    for training in (False, True):
        compiled = tf.function(layer, jit_compile=True)(inputs, training=training)
        if not training:
            np.testing.assert_allclose(compiled, layer(inputs), rtol=1e-5, atol=1e-6)
        assert np.all(np.isfinite(compiled))


@pytest.mark.parametrize("options", [{}, {"stochastic": False}, {"l2": 0.1, "l0": 0.1}])
def test_as_a_layer(options):
    inputs = tf.constant(np.random.default_rng(3).normal(size=[5, 3, 4]), tf.float32)
    outputs = run_layer_test(lambda: SubNetworkRouting(2, 6, **options), inputs)
    assert outputs.shape == (5, 2, 6)


@pytest.mark.parametrize(("outputs", "units"), [(0, 4), (2, 0)])
def test_refuses_no_outputs(outputs, units):
    with pytest.raises(ValueError, match=f"received num_outputs={outputs}, units={units}"):
        SubNetworkRouting(outputs, units)


@pytest.mark.parametrize("shape", [[5, 4], [5, None, 4], [5, 3, None]])
def test_refuses_inputs_of_unknown_sub_networks(shape):
    with pytest.raises(ValueError, match=r"expected inputs \[B, I, D\] .*; received \(5, .*stack"):
        SubNetworkRouting(2, 4).build(shape)
