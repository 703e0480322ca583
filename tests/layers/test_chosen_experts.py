import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import RoutedExperts
from tfmtl.layers.chosen_experts import ChosenExperts

TOKENS = tf.constant(np.random.default_rng(3).normal(size=[5, 3, 4]), tf.float32)


def bank_of(use_bias=False, seed=4):
    bank = RoutedExperts(6, [7, 2], use_bias=use_bias)
    bank.build([None, 4])
    random = np.random.default_rng(seed)
    bank.set_weights([random.normal(size=weight.shape) for weight in bank.weights])
    return bank


def test_golden():
    bank = RoutedExperts(3, [2, 1])
    bank.build([None, 2])
    bank.set_weights(
        [
            np.array([[[1, 2], [0, -1]], [[9, 9], [9, 9]], [[1, 0], [0, 1]]]),
            np.array([[[1], [10]], [[9], [9]], [[-2], [1]]]),
        ]
    )
    chosen = ChosenExperts(bank, tf.constant([2, 0]), tf.constant([0.5, 0.25]))
    # x = [1, 3]. Expert 0: [1, 2 - 3 = -1], leaky [1, -0.2]; 1 - 2 = -1.
    # Expert 2: [1, 3]; -2 + 3 = 1. In all 0.5 * 1 + 0.25 * -1.
    np.testing.assert_allclose(chosen(tf.constant([[1.0, 3.0]])), [[0.25]], rtol=1e-6)


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("experts", [[3], [5, 0, 2]])
def test_equals_the_bank_whose_tokens_all_visit_the_same_experts(experts, use_bias):
    bank = bank_of(use_bias)
    weights = [0.7, 0.4, -1.2][: len(experts)]
    chosen = ChosenExperts(bank, tf.constant(experts), tf.constant(weights))
    expected = bank(
        TOKENS, tf.constant([[experts] * 3] * 5), tf.constant([[weights] * 3] * 5, tf.float32)
    )
    np.testing.assert_allclose(chosen(TOKENS), expected, rtol=1e-5, atol=1e-6)


def test_holds_the_chosen_experts_alone_and_trains_nothing():
    chosen = ChosenExperts(bank_of(use_bias=True), tf.constant([1, 4]), tf.constant([0.5, 0.5]))
    # Two kernels, two biases and the weights.
    assert sorted(tuple(variable.shape) for variable in chosen.variables) == [
        (2,),
        (2, 2),
        (2, 4, 7),
        (2, 7),
        (2, 7, 2),
    ]
    assert chosen.trainable_variables == ()


def test_is_a_copy():
    bank = bank_of()
    chosen = ChosenExperts(bank, tf.constant([1]), tf.constant([1.0]))
    before = chosen(TOKENS)
    bank.set_weights([0 * weight for weight in bank.get_weights()])
    np.testing.assert_array_equal(chosen(TOKENS), before)
    assert np.abs(before).max() > 0.1


def test_any_number_of_rows_and_half_precision():
    chosen = ChosenExperts(bank_of(), tf.constant([1, 2]), tf.constant([1.0, 0.5]))
    traced = tf.function(chosen).get_concrete_function(tf.TensorSpec([None, 3, 4], tf.float16))
    assert traced.structured_outputs.shape.as_list() == [None, 3, 2]
    received = traced(tf.cast(TOKENS, tf.float16))
    assert received.dtype == tf.float16
    np.testing.assert_allclose(received, chosen(TOKENS), rtol=2e-2, atol=5e-2)
    assert traced(tf.zeros([0, 3, 4], tf.float16)).shape == (0, 3, 2)
