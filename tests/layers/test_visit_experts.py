import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import ExpertGroups, Experts
from tfmtl.layers.visit_experts import visit_experts


def randomized(bank, width, seed=0):
    bank.build([None, width])
    rng = np.random.default_rng(seed)
    bank.set_weights([rng.normal(scale=0.7, size=weight.shape) for weight in bank.weights])
    return bank


def test_golden():
    bank = Experts(2, [1])
    bank.build([None, 2])
    bank.set_weights([np.array([[[1], [-2]], [[3], [1]]]), np.array([[1], [-9]])])
    # x = [2, 1]: expert 0 gives 2 - 2 + 1 = 1; expert 1 gives 6 + 1 - 9 = -2, leaky -0.4.
    # x = [0, 4]: expert 0 gives -8 + 1 = -7, leaky -1.4; expert 1 gives 4 - 9 = -5, leaky -1.
    inputs = tf.constant([[2.0, 1.0], [0.0, 4.0]])
    first, second = visit_experts(
        [bank], inputs, [tf.constant([[1, 0], [0, 1]]), tf.constant([[1], [1]])]
    )
    np.testing.assert_allclose(first, [[[-0.4], [1]], [[-1.4], [-1]]], rtol=1e-5)
    np.testing.assert_allclose(second, [[[-0.4]], [[-1]]], rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_banks_are_numbered_one_after_the_other(jit_compile):
    """Experts 0 to 3 are of two groups with an input each, 4 to 6 of a bank with a third input."""
    rng = np.random.default_rng(3)
    groups = randomized(ExpertGroups(2, 2, [6, 4], l2=0.1), 5, seed=1)
    shared = randomized(Experts(3, [6, 4], l2=0.1), 5, seed=2)
    inputs = tf.constant(rng.normal(size=[9, 3, 5]), tf.float32)
    chosen = tf.constant(rng.integers(0, 7, [9, 3]), tf.int32)
    visit = tf.function(
        lambda: visit_experts([groups, shared], inputs, [chosen], sources=[0, 0, 1, 1, 2, 2, 2]),
        jit_compile=jit_compile,
    )
    dense = tf.concat([tf.reshape(groups(inputs[:, :2]), [9, 4, 4]), shared(inputs[:, 2])], axis=1)
    expected = tf.gather(dense, chosen, batch_dims=1)
    np.testing.assert_allclose(visit()[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1, 100])
def test_layer_normalisation_is_that_of_the_bank(scale):
    bank = randomized(ExpertGroups(3, 1, [6, 4], activation="silu", normalization="layer"), 5)
    inputs = tf.constant(scale * np.random.default_rng(3).normal(size=[9, 5]), tf.float32)
    everyone = tf.tile(tf.range(3)[tf.newaxis], [9, 1])
    (received,) = visit_experts([bank], inputs, [everyone])
    np.testing.assert_allclose(received, bank(inputs)[:, :, 0], rtol=1e-4, atol=1e-4)


def test_refuses_batch_normalisation():
    bank = ExpertGroups(3, 1, [4], normalization="batch")
    with pytest.raises(ValueError, match="received 'batch', whose statistics are those of all"):
        visit_experts([bank], tf.ones([2, 3]), [tf.zeros([2, 1], tf.int32)])


def test_dropout_is_in_training_only():
    bank = randomized(Experts(2, [64], activation="sigmoid", dropout=0.5), 3)
    inputs, chosen = tf.ones([4, 3]), [tf.zeros([4, 1], tf.int32)]
    (kept,) = visit_experts([bank], inputs, chosen, training=False)
    (dropped,) = visit_experts([bank], inputs, chosen, training=True)
    assert np.all(kept.numpy() > 0)
    assert 0.3 < np.mean(dropped.numpy() == 0) < 0.7


def test_an_empty_batch():
    bank = randomized(Experts(2, [4]), 3)
    (received,) = visit_experts([bank], tf.ones([0, 3]), [tf.zeros([0, 2], tf.int32)])
    assert received.shape == [0, 2, 4]


def test_weights_that_no_call_made_have_the_names_of_a_call():
    called, visited = Experts(2, [4], name="experts"), Experts(2, [4], name="experts")
    called(tf.ones([2, 3]))
    tf.function(lambda: visit_experts([visited], tf.ones([2, 3]), [tf.zeros([2, 1], tf.int32)]))()
    assert [w.name for w in visited.weights] == [w.name for w in called.weights]


def test_only_the_chosen_learn():
    bank = randomized(Experts(4, [6, 3]), 5)
    with tf.GradientTape() as tape:
        (outputs,) = visit_experts([bank], tf.ones([2, 5]), [tf.constant([[3, 1], [1, 1]])])
        loss = tf.reduce_sum(outputs)
    gradient = tape.gradient(loss, bank.kernels[1]).numpy()
    assert [bool(np.any(own)) for own in gradient] == [False, True, False, True]
