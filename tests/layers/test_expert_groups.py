import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import ExpertGroups, Experts
from tfmtl.testing import assert_experts_differ, run_layer_test

SCALE = 1 / np.sqrt(1.00001)  # 1e-5 is added to variances


def leaky(values):
    return np.where(values > 0, values, 0.2 * values)


def normalizing(normalization, kernel, width):
    """Linear experts of one layer; scale 2 and shift 1 on all that is normalised."""
    layer = ExpertGroups(1, 2, [width], activation="linear", normalization=normalization)
    layer.build([None, 1])
    values = {"kernel_0:0": kernel, "gamma:0": 2.0, "beta:0": 1.0}
    for weight in layer.trainable_weights:
        value = values[weight.name.split("/")[-1]]
        weight.assign(np.broadcast_to(np.array(value, np.float32), weight.shape))
    return layer


def test_golden():
    layer = ExpertGroups(2, 1, [2, 1])
    layer.build([None, 2, 2])
    first = [[[1, 0], [2, -1]], [[0, 3], [1, 1]]]
    second = [[[1], [10]], [[-2], [1]]]
    layer.set_weights(
        [np.array(w, np.float32) for w in (first, [[0, 1], [-5, 0]], second, [[0.5], [0]])]
    )
    # Group 0 reads [1, 3]: [7, -3 + 1], leaky [7, -0.4]; 7 - 4 + 0.5 = 3.5.
    # Group 1 reads [2, 1]: [1 - 5, 6 + 1], leaky [-0.8, 7]; 1.6 + 7 = 8.6.
    received = layer(tf.constant([[[1.0, 3.0], [2.0, 1.0]]]))
    np.testing.assert_allclose(received, [[[[3.5]], [[8.6]]]], rtol=1e-6)


def test_equals_a_loop_over_groups_and_experts():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=[7, 3, 5]).astype(np.float32)
    layer = ExpertGroups(3, 2, [6, 4, 2])
    layer.build([None, 3, 5])
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    weights = layer.get_weights()
    received = layer(inputs)
    for group in range(3):
        for expert in range(2):
            hidden = inputs[:, group]
            for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
                hidden = leaky(hidden @ kernel[2 * group + expert] + bias[2 * group + expert])
            np.testing.assert_allclose(received[:, group, expert], hidden, rtol=1e-4, atol=1e-4)


def test_on_one_input_it_is_a_bank_of_experts():
    rng = np.random.default_rng(1)
    inputs = tf.constant(rng.normal(size=[7, 5]), tf.float32)
    layer, bank = ExpertGroups(3, 2, [6, 4]), Experts(6, [6, 4])
    layer.build([None, 5])
    bank.build([None, 5])
    bank.set_weights(layer.get_weights())
    expected = tf.reshape(bank(inputs), [7, 3, 2, 4])
    np.testing.assert_allclose(layer(inputs), expected, atol=1e-6)
    repeated = tf.repeat(inputs[:, tf.newaxis], 3, axis=1)
    np.testing.assert_allclose(layer(repeated), expected, atol=1e-6)


def test_batch_normalization_scales_an_output_over_the_rows():
    # Rows 1 and 3 give outputs 1, 3 and 10, 30 (kernels 1 and 10): mean 2, variance 1 and
    # mean 20, variance 100.
    layer = normalizing("batch", [[[1.0]], [[10.0]]], 1)
    rows = tf.constant([[1.0], [3.0]])
    received = layer(rows, training=True)[:, 0, :, 0]
    large = 10 / np.sqrt(100.00001)
    expected = [[1 - 2 * SCALE, 1 - 2 * large], [1 + 2 * SCALE, 1 + 2 * large]]
    np.testing.assert_allclose(received, expected, rtol=1e-5)
    # A tenth of the batch enters the averages that started at 0 and 1.
    averages = {w.name.split("/")[-1]: w.numpy() for w in layer.non_trainable_weights}
    np.testing.assert_allclose(averages["moving_mean:0"], [0.2, 2.0], rtol=1e-5)
    np.testing.assert_allclose(averages["moving_variance:0"], [1.0, 10.9], rtol=1e-5)
    received = layer(rows, training=False)[:, 0, :, 0]
    expected = 1 + 2 * (np.array([[1, 10], [3, 30]]) - [0.2, 2]) / np.sqrt([1.00001, 10.90001])
    np.testing.assert_allclose(received, expected, rtol=1e-5)


def test_layer_normalization_scales_a_row_over_an_experts_outputs():
    # The row 1 gives [1, 3] and [10, 30].
    layer = normalizing("layer", [[[1.0, 3.0]], [[10.0, 30.0]]], 2)
    large = 10 / np.sqrt(100.00001)
    expected = [[1 - 2 * SCALE, 1 + 2 * SCALE], [1 - 2 * large, 1 + 2 * large]]
    for training in (True, False):
        received = layer(tf.constant([[1.0], [-5.0]]), training=training)
        np.testing.assert_allclose(received[0, 0], expected, rtol=1e-5)
        # The other row has no part in it.
        alone = layer(tf.constant([[1.0]]), training=training)
        np.testing.assert_allclose(alone[0], received[0], rtol=1e-6)


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_a_normalised_layer_has_a_shift_and_no_bias(normalization):
    layer = ExpertGroups(2, 2, [6, 3], normalization=normalization)
    layer.build([None, 5])
    shapes = {weight.name: weight.shape.as_list() for weight in layer.trainable_weights}
    assert shapes == {
        "kernel_0:0": [4, 5, 6],
        "bias_0:0": [4, 6],
        "kernel_1:0": [4, 6, 3],
        "normalization/gamma:0": [12],
        "normalization/beta:0": [12],
    }


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_statistics_are_in_full_precision_under_a_half_policy(normalization):
    layer = ExpertGroups(
        1, 1, [2], activation="linear", normalization=normalization, dtype="mixed_float16"
    )
    layer.build([None, 2])
    layer.set_weights([np.eye(2)[np.newaxis], *layer.get_weights()[1:]])
    # The variance 90000 is beyond 65504, the largest number of half precision.
    rows = tf.constant([[300.0, 900.0], [900.0, 300.0]], tf.float16)
    received = layer(rows, training=True)
    assert received.dtype == tf.float16
    np.testing.assert_allclose(received[:, 0, 0], [[-1, 1], [1, -1]], atol=1e-3)
    assert all(weight.dtype == tf.float32 for weight in layer.weights)


@pytest.mark.parametrize("kernel", [0, 1])
def test_experts_differ_at_the_start(kernel):
    layer = ExpertGroups(3, 2, [8, 8])
    layer.build([None, 16])
    assert_experts_differ(layer.kernels[kernel].numpy())


@pytest.mark.parametrize("groups", [1, 8, 64])
def test_kernels_have_the_deviation_of_a_single_one(groups):
    layer = ExpertGroups(groups, 1, [32])
    layer.build([None, 64])
    # Glorot uniform of a [64, 32] kernel: sqrt(2 / 96) = 0.144.
    assert layer.kernels[0].numpy().std() == pytest.approx(np.sqrt(2 / 96), rel=0.05)


def test_drops_activations_in_training_only():
    layer = ExpertGroups(2, 2, [50], dropout=0.5)
    inputs = tf.ones([4, 2, 3])
    assert np.mean(layer(inputs, training=True) == 0) == pytest.approx(0.5, abs=0.2)
    assert np.all(layer(inputs, training=False) != 0)


def test_penalty_is_on_kernels_only():
    layer = ExpertGroups(2, 1, [1], l2=0.5)
    layer.build([None, 2])
    layer.set_weights([np.array([[[1], [2]], [[3], [0]]]), np.full([2, 1], 9.0)])
    assert float(tf.add_n(layer.losses)) == pytest.approx(0.5 * (1 + 4 + 9))


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@pytest.mark.parametrize("shape", [[5, 4], [5, 3, 4]])
def test_as_a_layer(normalization, shape):
    inputs = tf.constant(np.random.default_rng(3).normal(size=shape), tf.float32)
    outputs = run_layer_test(
        # Of two outputs that are close, a normalised row would be all rounding error.
        lambda: ExpertGroups(3, 2, [6, 8], normalization=normalization, dropout=0.1, l2=0.1),
        inputs,
    )
    assert outputs.shape == (5, 3, 2, 8)


@pytest.mark.parametrize(
    ("groups", "experts", "units"), [(0, 1, [4]), (1, 0, [4]), (2, 1, []), (2, 1, [4, 0])]
)
def test_refuses_empty_groups(groups, experts, units):
    message = rf"received num_groups={groups}, num_experts={experts}, units=\{units}"
    with pytest.raises(ValueError, match=message):
        ExpertGroups(groups, experts, units)


def test_refuses_an_unknown_normalization():
    with pytest.raises(ValueError, match="'batch', 'layer' or None; received 'group'"):
        ExpertGroups(1, 1, [4], normalization="group")


def test_refuses_inputs_of_other_groups():
    with pytest.raises(ValueError, match=r"one per group, \[B, 3, D\]; received \(None, 2, 4\)"):
        ExpertGroups(3, 1, [4]).build([None, 2, 4])
