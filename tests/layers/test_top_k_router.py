import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.layers import TopKRouter
from tfmtl.testing import run_layer_test


def router(kernel, bias, **options):
    layer = TopKRouter(len(bias), **options)
    layer.build([None, len(kernel)])
    layer.set_weights([np.array(kernel, np.float32), np.array(bias, np.float32)])
    return layer


def identity(experts, **options):
    """A router whose states are its logits."""
    return router(np.eye(experts), np.zeros(experts), **options)


def test_golden():
    # [1, 2] W + b = [ln 2 + 0, 2 ln 3, 1 - 1, ...]: logits ln 2, ln 9, 0; odds 2 : 9 : 1.
    kernel, bias = [[math.log(2), 0, 1], [0, math.log(3), 0]], [0, 0, -1]
    routing = router(kernel, bias, k=2)(tf.constant([[1.0, 2.0]]))
    np.testing.assert_allclose(routing.probabilities, [[2 / 12, 9 / 12, 1 / 12]], rtol=1e-6)
    np.testing.assert_array_equal(routing.experts, [[1, 0]])
    np.testing.assert_allclose(routing.weights, [[9 / 12, 2 / 12]], rtol=1e-6)
    # Experts 0 and 1 have half of the choices each: 3 (2/12 + 9/12) / 2 = 1.375.
    np.testing.assert_array_equal(routing.load, [0.5, 0.5, 0])
    assert float(routing.balance_loss) == pytest.approx(1.375)
    assert float(routing.z_loss) == pytest.approx(math.log(12) ** 2)


def test_renormalised_weights_sum_to_one():
    logits = tf.math.log([[2.0, 9.0, 1.0]])
    routing = identity(3, k=2, renormalize=True)(logits)
    np.testing.assert_allclose(routing.weights, [[9 / 11, 2 / 11]], rtol=1e-6)


def test_ties_go_to_the_lowest_index():
    routing = identity(5, k=3)(tf.constant([[0.0, 0.0, 1.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(routing.experts, [[2, 0, 1]])


def test_balance_loss_is_1_at_balance():
    assert float(identity(4)(50 * tf.eye(4)).balance_loss) == pytest.approx(1)


def test_balance_loss_is_the_number_of_experts_at_collapse():
    logits = tf.repeat(50 * tf.eye(4)[2:3], 6, axis=0)
    assert float(identity(4)(logits).balance_loss) == pytest.approx(4)


def test_balance_loss_counts_the_whole_batch():
    # Both tokens of a sample share an expert. Means within samples would give 4 for each.
    logits = tf.repeat(50 * tf.eye(4)[:, tf.newaxis], 2, axis=1)
    routing = identity(4)(logits)
    assert routing.experts.shape == [4, 2, 1]
    assert float(routing.balance_loss) == pytest.approx(1)


def test_z_loss_of_zero_logits():
    assert float(identity(4)(tf.zeros([3, 4])).z_loss) == pytest.approx(math.log(4) ** 2)


def test_the_balance_loss_pulls_from_the_crowded_expert():
    logits = tf.constant([[2.0, 1.0], [2.0, 1.0], [1.0, 1.5]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = identity(2)(logits).balance_loss
    assert (tape.gradient(loss, logits)[:, 0].numpy() > 0).all()


def test_jitter_is_in_training_only_and_within_its_width():
    keras.utils.set_random_seed(5)
    layer, states = identity(2, jitter=0.1), tf.repeat(tf.constant([[2.0, 0.0]]), 1000, axis=0)

    def logits(**options):
        probabilities = layer(states, **options).probabilities.numpy()
        return np.log(probabilities[:, 0] / probabilities[:, 1])

    np.testing.assert_allclose(logits(), 2, rtol=1e-5)
    np.testing.assert_allclose(logits(training=False), 2, rtol=1e-5)
    first, second = logits(training=True), logits(training=True)
    assert first.min() == pytest.approx(1.8, abs=0.01)
    assert first.max() == pytest.approx(2.2, abs=0.01)
    assert (first != second).any()


def test_the_seed_of_keras_decides_the_jitter():
    draws = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        draws.append(identity(3)(tf.ones([4, 3]), training=True).probabilities.numpy())
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_decides_in_full_precision_under_a_half_policy():
    layer = TopKRouter(2, dtype="mixed_float16")
    layer.build([None, 2])
    layer.set_weights([np.eye(2), np.zeros(2)])
    # Half precision would round 1.0001 to 1, a tie, and choose expert 0.
    routing = layer(tf.constant([[1.0, 1.0001]]))
    assert routing.probabilities.dtype == tf.float32
    np.testing.assert_array_equal(routing.experts, [[1]])


@pytest.mark.parametrize("k", [1, 2])
def test_as_a_layer(k):
    inputs = tf.constant(np.random.default_rng(3).normal(size=[5, 4]), tf.float32)
    run_layer_test(lambda: TopKRouter(3, k=k), inputs)


@pytest.mark.parametrize("k", [0, 4])
def test_refuses_more_choices_than_experts(k):
    with pytest.raises(ValueError, match=f"expected k from 1 to num_experts=3; received {k}: cho"):
        TopKRouter(3, k=k)


@pytest.mark.parametrize("jitter", [-0.1, 1.0])
def test_refuses_jitter_out_of_range(jitter):
    with pytest.raises(ValueError, match=f"jitter from 0 to below 1; received {jitter}: take 0"):
        TopKRouter(3, jitter=jitter)


def test_the_losses_of_an_empty_batch_are_0():
    routing = identity(4)(tf.zeros([0, 4]))
    assert [float(routing.balance_loss), float(routing.z_loss)] == [0, 0]
    assert routing.load.numpy().tolist() == [0] * 4
