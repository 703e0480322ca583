import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import MacroAggregator
from tfmtl.testing import assert_gradients_reach_every_weight, run_layer_test

QUERY, KEY, VALUE = [[1, 2], [0, 1]], [[2, 1], [1, 0]], [[1, 0], [4, -1]]
# Node 0 is padding. Values of the others: [1, 0] and [8, -2].
NODES = tf.constant([[9.0, 9.0], [1.0, 0.0], [0.0, 2.0]])
TARGET = tf.constant([[1.0, -1.0]])
WEIGHTS = tf.constant([[0.0, 0.25, 0.75]])
# Queries [1, 2] and [0, 2] meet the key [2 - 1, 1]: scores 3 / sqrt 2 and 2 / sqrt 2.
BETA = 1 / (1 + math.exp(-1 / math.sqrt(2)))


def aggregator(query=QUERY, **options):
    layer = MacroAggregator(2, **options)
    layer.build([None, 2])
    kernels = [VALUE] if layer.attention == "released" else [query, KEY, VALUE]
    layer.set_weights([np.array(kernel, np.float32) for kernel in kernels])
    return layer


def random_inputs(shape, rows=5):
    rng = np.random.default_rng(3)
    neighbors, target = rng.normal(size=shape), rng.normal(size=[rows, shape[-1]])
    weights = rng.uniform(size=[rows, shape[-2]])
    return [tf.constant(array, tf.float32) for array in (neighbors, target, weights)]


def test_golden():
    # Two neighbours take part: 2 (1/4) beta [1, 0] + 2 (3/4) (1 - beta) [8, -2].
    expected = [[0.5 * BETA + 12 * (1 - BETA), -3 * (1 - BETA)]]
    np.testing.assert_allclose(aggregator()(NODES, TARGET, WEIGHTS), expected, rtol=1e-6)


def test_released_attention_has_no_effect():
    layer = aggregator(attention="released")
    assert [weight.name for weight in layer.weights] == ["value:0"]
    # 1/4 [1, 0] + 3/4 [8, -2], whatever the target.
    for target in (TARGET, 100 * TARGET):
        np.testing.assert_allclose(layer(NODES, target, WEIGHTS), [[6.25, -1.5]], rtol=1e-6)


def test_released_code_computes_the_released_attention():
    """A softmax over the last axis of scores `[B, G, 1]` gives ones."""
    nodes, target, weights = random_inputs([7, 2])
    scores = (nodes @ tf.constant(QUERY, tf.float32)) @ tf.transpose(
        target @ tf.constant(KEY, tf.float32)
    )
    beta = tf.nn.softmax(tf.transpose(scores)[..., tf.newaxis] / math.sqrt(2), axis=-1)
    np.testing.assert_array_equal(beta, np.ones([5, 7, 1]))
    values = weights[..., tf.newaxis] * beta * (nodes @ tf.constant(VALUE, tf.float32))
    received = aggregator(attention="released", mask_padding=False)(nodes, target, weights)
    np.testing.assert_allclose(received, tf.reduce_sum(values, axis=1), rtol=1e-5)


@pytest.mark.parametrize("shape", [[7, 2], [5, 7, 2]])
@pytest.mark.parametrize("mask_padding", [True, False])
def test_attention_that_tells_nothing_is_the_released_one(shape, mask_padding):
    inputs = random_inputs(shape)
    mask = tf.constant([[True] * 7, [True, True, False] + [False] * 4] * 2 + [[False] * 7])
    options = {"mask_padding": mask_padding}
    flat = aggregator(query=[[0, 0], [0, 0]], **options)
    released = aggregator(attention="released", **options)
    for extra in ([], [mask], [mask[1]]):
        expected = released(*inputs, *extra)
        assert np.abs(expected).max() > 1
        np.testing.assert_allclose(flat(*inputs, *extra), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attention", ["neighbor", "released"])
def test_padding_counts_unless_it_is_masked(attention):
    nodes, target, weights = random_inputs([7, 2])
    other = tf.concat([100 * nodes[:1], nodes[1:]], axis=0)
    masked, whole = (
        aggregator(attention=attention, mask_padding=mask_padding) for mask_padding in (True, False)
    )
    np.testing.assert_array_equal(masked(nodes, target, weights), masked(other, target, weights))
    assert np.abs(whole(nodes, target, weights) - whole(other, target, weights)).max() > 1
    # Without padding the neighbours are the six others.
    rest = whole(nodes[1:], target, weights[:, 1:])
    np.testing.assert_allclose(masked(nodes, target, weights), rest, rtol=1e-5)


def test_neighbors_of_their_own_are_those_that_rows_share():
    nodes, target, weights = random_inputs([7, 2])
    layer = aggregator(mask_padding=False)
    tiled = tf.tile(nodes[tf.newaxis], [5, 1, 1])
    np.testing.assert_allclose(
        layer(tiled, target, weights), layer(nodes, target, weights), rtol=1e-5, atol=1e-6
    )


def test_neighbors_of_their_own_have_no_padding():
    neighbors = tf.stack([NODES[1:], NODES[:0:-1]])
    received = aggregator()(neighbors, tf.repeat(TARGET, 2, 0), tf.constant([[0.25, 0.75]] * 2))
    # The second row has its neighbours the other way round, and so their weights.
    turned = [1.5 * BETA + 4 * (1 - BETA), -(1 - BETA)]
    expected = [[0.5 * BETA + 12 * (1 - BETA), -3 * (1 - BETA)], turned]
    np.testing.assert_allclose(received, expected, rtol=1e-6)


@pytest.mark.parametrize("attention", ["neighbor", "released"])
def test_neighbors_outside_the_mask_do_not_take_part(attention):
    neighbors, target, weights = random_inputs([5, 7, 2])
    layer = aggregator(attention=attention)
    mask = tf.range(7) < 3
    expected = layer(neighbors[:, :3], target, weights[:, :3])
    for given in (mask, tf.tile(mask[tf.newaxis], [5, 1])):
        received = layer(neighbors, target, weights, given)
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attention", ["neighbor", "released"])
def test_rows_without_a_neighbor_are_zero_with_finite_gradients(attention):
    neighbors, target, weights = random_inputs([5, 7, 2])
    mask = tf.constant([[False] * 7, [True] * 7] + [[False] * 7] * 3)
    layer = aggregator(attention=attention)
    with tf.GradientTape() as tape:
        tape.watch([neighbors, target, weights])
        outputs = layer(neighbors, target, weights, mask)
        loss = tf.reduce_sum(outputs**2)
    np.testing.assert_array_equal(tf.gather(outputs, [0, 2, 3, 4]), np.zeros([4, 2]))
    assert np.abs(outputs[1]).max() > 0
    sources = [neighbors, target, weights, *layer.trainable_weights]
    for gradient in tape.gradient(loss, sources, unconnected_gradients="zero"):
        assert np.isfinite(gradient).all()
    assert_gradients_reach_every_weight(layer, neighbors, target, weights, mask)


def test_scores_beyond_half_precision():
    layer = aggregator(dtype="mixed_float16")
    # Scores 3 and 2 times 10^5: all of the first neighbour, twice its weight.
    received = layer(NODES, 1e5 * TARGET, WEIGHTS)
    np.testing.assert_allclose(received, [[0.5, 0]], rtol=1e-3)


def test_penalty_is_on_all_kernels():
    layer = aggregator(l2=0.5)
    # 1 + 4 + 1, 4 + 1 + 1 and 1 + 16 + 1.
    assert float(tf.add_n(layer.losses)) == pytest.approx(0.5 * 30)


def test_xla():
    nodes, target, weights = random_inputs([7, 2])
    layer = aggregator()
    compiled = tf.function(layer, jit_compile=True)
    np.testing.assert_allclose(
        compiled(nodes, target, weights), layer(nodes, target, weights), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("attention", ["neighbor", "released"])
@pytest.mark.parametrize("shape", [[7, 4], [5, 7, 4]])
@pytest.mark.parametrize("masked", [False, True])
def test_as_a_layer(attention, shape, masked):
    inputs = random_inputs(shape)
    if masked:
        inputs.append(tf.constant(np.random.default_rng(5).uniform(size=[5, 7]) < 0.5))
    outputs = run_layer_test(lambda: MacroAggregator(8, attention=attention, l2=0.1), *inputs)
    assert outputs.shape == (5, 8)


def test_refuses_unknown_attention():
    with pytest.raises(
        ValueError, match="expected attention 'neighbor' or 'released'; received 'd"
    ):
        MacroAggregator(4, attention="dot")


def test_refuses_no_width():
    with pytest.raises(ValueError, match="expected positive units; received 0"):
        MacroAggregator(0)
