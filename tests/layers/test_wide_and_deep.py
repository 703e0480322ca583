import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import WideAndDeep
from tfmtl.testing import run_layer_test

RNG = np.random.default_rng(5)
DEEP = tf.constant(RNG.normal(size=[6, 3, 4]), tf.float32)
WIDE = tf.constant(RNG.normal(size=[6, 2]), tf.float32)


def assigned(layer, values):
    """Gives every weight its values, by the last two parts of its name."""
    for weight in layer.weights:
        weight.assign(values["/".join(weight.name.split(":")[0].split("/")[-2:])])
    return layer


def test_golden():
    layer = WideAndDeep(4)
    layer.build({"deep": [None, 2], "wide": [None, 1]})
    values = {
        "deep/kernel": [[1, 0], [2, -1]],
        "deep/bias": [0, 0.5],
        # Rows: x, x^2, sqrt|x|.
        "wide/kernel": [[1, 0], [0, 1], [-1, 0]],
        "wide/bias": [0, -4],
        "normalize/gamma": [1, 2, 1],
        "normalize/beta": [0, 0, 1],
        "normalize/moving_mean": [-2, 10, 2],
        # Keras adds 0.001 to the variance: 1, 4 and 1 in all.
        "normalize/moving_variance": [0.999, 3.999, 0.999],
    }
    assigned(layer, values)
    received = layer({"deep": tf.constant([[3.0, 1.0]]), "wide": tf.constant([[-4.0]])})
    # Deep: 3 + 2 = 5 and -1 + 0.5 = -0.5, a fifth of which passes.
    # Powers of -4: -4, 16, 2. Normalised: -4 + 2 = -2; 2 (16 - 10) / 2 = 6; 2 - 2 + 1 = 1.
    # Wide: -2 - 1 = -3, a fifth of which passes, and 6 - 4 = 2.
    np.testing.assert_allclose(received, [[5, -0.1, -0.6, 2]], rtol=1e-5)


# Keras adds 0.001 to the variance: the numbers stay as they are.
UNCHANGED = {
    "normalize/gamma": [1],
    "normalize/beta": [0],
    "normalize/moving_mean": [0],
    "normalize/moving_variance": [0.999],
}


def test_golden_of_a_hidden_layer():
    layer = WideAndDeep(1, deep_units=[2])
    layer.build({"deep": [None, 2]})
    assigned(
        layer,
        {
            "dense_0/kernel": [[1, 0], [2, -1]],
            "dense_0/bias": [0, 0.5],
            "deep/kernel": [[1], [20]],
            "deep/bias": [-1],
        },
    )
    # Hidden: 3 + 2 = 5 and -1 + 0.5 = -0.5, a fifth of which passes: 5 - 20 * 0.1 - 1 = 2.
    np.testing.assert_allclose(layer({"deep": tf.constant([[3.0, 1.0]])}), [[2]], rtol=1e-5)


def test_golden_of_numbers_alone():
    layer = WideAndDeep(2, powers=False)
    layer.build({"wide": [None, 1]})
    values = {"wide/kernel": [[2, -3]], "wide/bias": [1, 0], **UNCHANGED}
    # 2 * 4 + 1 = 9, and -3 * 4 = -12, a fifth of which passes. With powers there are three rows.
    np.testing.assert_allclose(
        assigned(layer, values)({"wide": tf.constant([[4.0]])}), [[9, -2.4]], rtol=1e-5
    )


def test_golden_of_the_deep_part_that_reads_numbers():
    layer = WideAndDeep(2, powers=False, joint=True)
    layer.build({"deep": [None, 1], "wide": [None, 1]})
    values = {
        "deep/kernel": [[2], [10]],
        "deep/bias": [0],
        "wide/kernel": [[1]],
        "wide/bias": [-5],
        **UNCHANGED,
    }
    # Deep: 2 * 3 + 10 * 4 = 46. Wide: 4 - 5 = -1, a fifth of which passes.
    received = assigned(layer, values)({"deep": tf.constant([[3.0]]), "wide": tf.constant([[4.0]])})
    np.testing.assert_allclose(received, [[46, -0.2]], rtol=1e-5)


def test_features_may_come_stacked_or_joined():
    layer = WideAndDeep(8)
    joined = tf.reshape(DEEP, [6, 12])
    np.testing.assert_array_equal(layer({"deep": DEEP}), layer({"deep": joined}))


def test_training_normalises_numbers_of_any_size():
    layer = WideAndDeep(4)
    numbers = tf.constant([[1e6, 0.0], [3e6, 1e-3], [2e6, -2e-3], [5e6, 5e-3]])
    outputs = layer({"wide": numbers}, training=True)
    assert np.abs(outputs).max() < 10
    moved = [w for w in layer.non_trainable_weights if "moving_mean" in w.name]
    # A fiftieth of the way from 0 to the mean of x, and of its powers.
    np.testing.assert_allclose(moved[0][0], 0.02 * 2.75e6, rtol=1e-5)


def test_numbers_beyond_half_precision():
    layer = WideAndDeep(4, dtype="mixed_float16")
    outputs = layer({"wide": tf.constant([[1e6], [3e6]])}, training=True)
    assert outputs.dtype == tf.float16
    assert np.isfinite(outputs).all()


def test_zero_has_a_finite_gradient():
    numbers = tf.constant([[0.0], [4.0]])
    layer = WideAndDeep(4)
    with tf.GradientTape() as tape:
        tape.watch(numbers)
        loss = tf.reduce_sum(layer({"wide": numbers}) ** 2)
    assert np.isfinite(tape.gradient(loss, numbers)).all()


def test_rounding_of_zero_does_not_show():
    layer = WideAndDeep(4)
    layer.build({"wide": [None, 1]})
    zero, rounded, small = layer({"wide": tf.constant([[0.0], [1e-7], [1e-3]])})
    # A root of 1e-7 would be 3e-4.
    assert 0 < np.abs(rounded - zero).max() < 2e-5
    # That of 1e-3 is one: 0.03.
    (kernel,) = (weight for weight in layer.weights if weight.name.endswith("wide/kernel:0"))
    expected = np.array([1e-3, 1e-6, 1e-3**0.5]) / np.sqrt(1.001) @ kernel.numpy()
    np.testing.assert_allclose(small, np.where(expected > 0, expected, 0.2 * expected), rtol=1e-4)


@pytest.mark.parametrize(
    ("units", "inputs", "message"),
    [
        (0, {"wide": WIDE}, "expected positive units; received 0"),
        (5, {"deep": DEEP, "wide": WIDE}, "expected even units for two parts; received 5"),
        (4, {"broad": WIDE}, r"or of one of them; received \['broad'\]: name"),
    ],
)
def test_refused(units, inputs, message):
    with pytest.raises(ValueError, match=message):
        WideAndDeep(units)(inputs)


@pytest.mark.parametrize("options", [{}, {"deep_units": (5, 3), "powers": False, "joint": True}])
@pytest.mark.parametrize("parts", [["deep"], ["wide"], ["deep", "wide"]])
def test_as_a_layer(parts, options):
    inputs = {part: {"deep": DEEP, "wide": WIDE}[part] for part in parts}
    assert run_layer_test(lambda: WideAndDeep(6, **options), inputs).shape == (6, 6)
