import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.layers import ParallelTransformerBlock, RMSNorm, SequencePooling
from tfmtl.testing import run_layer_test

RNG = np.random.default_rng(7)
STATES = tf.constant(RNG.normal(size=[3, 5, 8]), tf.float32)
MASK = tf.constant([[True, True, True, False, False], [True] * 5, [False] * 5])


def block(num_heads=2, width=8, **options):
    layer = ParallelTransformerBlock(num_heads, **options)
    layer.build([None, None, width])
    return layer


def silu(x):
    return x / (1 + math.exp(-x))


def test_golden():
    layer = block(1, width=2, ff_multiple=1, residual=False)
    scale = np.array([2.0, 1.0])
    # Columns: q (2), k (2), v (2), f_1 (2), f_2 (2).
    fused = np.array(
        [
            [1.0, 0.0, 0.5, 0.0, 1.0, 2.0, 3.0, 0.0, 0.5, 0.0],
            [0.0, 2.0, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 1.0, 2.0],
        ]
    )
    attention_out, forward_out = np.array([[1.0, 2.0], [0.0, 3.0]]), np.array([[1, 0], [-1, 4.0]])
    layer.set_weights([scale, fused, attention_out, forward_out])
    received = layer(tf.constant([[[5.0, 1.0], [-3.0, 7.0]]]))

    # Two coordinates normalise to (1, -1) and (-1, 1), and scale to (2, -1) and (-2, 1).
    # First position: q (2, -2), k (1, -1), v (2, 3), f_1 (6, 1), f_2 (0, -2).
    # The second is the negative of all of that; it turns by one radian:
    # (a, b) becomes (a cos 1 - b sin 1, b cos 1 + a sin 1).
    cosine, sine = math.cos(1), math.sin(1)
    queries = [(2, -2), (-2 * cosine - 2 * sine, 2 * cosine - 2 * sine)]
    keys = [(1, -1), (-cosine - sine, cosine - sine)]
    values = [(2, 3), (-2, -3)]
    hidden = [(silu(0) * 6, silu(-2) * 1), (silu(0) * -6, silu(2) * -1)]
    for position in range(2):
        query = queries[position]
        scores = [(query[0] * key[0] + query[1] * key[1]) / math.sqrt(2) for key in keys]
        first = 1 / (1 + math.exp(scores[1] - scores[0]))
        mean = [first * values[0][j] + (1 - first) * values[1][j] for j in range(2)]
        # W_o takes (a, b) to (a, 2 a + 3 b), W_ff to (a - b, 4 b).
        a, b = hidden[position]
        expected = [mean[0] + a - b, 2 * mean[0] + 3 * mean[1] + 4 * b]
        np.testing.assert_allclose(received[0, position], expected, rtol=1e-4)


def test_equals_attention_written_head_by_head():
    layer = block(2, head_dim=6, ff_multiple=3)
    scale, fused, attention_out, forward_out = layer.get_weights()
    scale = RNG.normal(size=8).astype(np.float32)
    layer.set_weights([scale, fused, attention_out, forward_out])
    frequencies = 10000.0 ** -(np.arange(3) / 3)

    def turn(vector, position):
        angle = position * frequencies
        left, right = vector[:3], vector[3:]
        return np.concatenate(
            [
                left * np.cos(angle) - right * np.sin(angle),
                right * np.cos(angle) + left * np.sin(angle),
            ]
        )

    received = layer(STATES, MASK).numpy()
    for row, length in ((0, 3), (1, 5)):
        x = STATES[row].numpy()
        spread = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        columns = ((x - x.mean(axis=-1, keepdims=True)) / spread * scale) @ fused
        keys, values = columns[:, 12:18], columns[:, 18:24]
        linear, gate = columns[:, 24:48], columns[:, 48:72]
        for position in range(length):
            heads = []
            for head in range(2):
                query = turn(columns[position, 6 * head : 6 * head + 6], position)
                scores = [query @ turn(keys[other], other) / 6**0.5 for other in range(length)]
                weights = np.exp(scores) / np.exp(scores).sum()
                heads.append(weights @ values[:length])
            swish = gate[position] / (1 + np.exp(-gate[position]))
            expected = np.concatenate(heads) @ attention_out
            expected = x[position] + expected + (swish * linear[position]) @ forward_out
            np.testing.assert_allclose(received[row, position], expected, rtol=1e-3, atol=1e-5)


def test_one_projection_for_query_shared_key_and_value_and_network():
    # One head as wide as the states: 256 + 256 + 256 + 2 * 4 * 256 columns.
    shapes = {w.name.split("/")[-2]: w.shape for w in block(1, width=256).weights}
    assert shapes == {
        "norm": [256],
        "fused": [256, 2816],
        "attention_out": [256, 256],
        "forward_out": [1024, 256],
    }
    # Eight heads share one key and one value: 8 * 32 + 32 + 32 + 2048.
    assert block(8, width=256).weights[1].shape == [256, 2368]


def test_masked_positions_influence_nobody():
    layer = block()
    valid = MASK.numpy()
    changed = tf.where(MASK[:, :, tf.newaxis], STATES, 1e3 * STATES[::-1] + 70)
    np.testing.assert_array_equal(layer(STATES, MASK)[valid], layer(changed, MASK)[valid])
    # Without the mask they do.
    assert np.abs(layer(STATES)[0, :3] - layer(changed)[0, :3]).max() > 1e-2


def test_padding_makes_no_difference():
    layer = block()
    np.testing.assert_allclose(
        layer(STATES, MASK)[0, :3], layer(STATES[:1, :3])[0], rtol=1e-5, atol=1e-6
    )


def test_masks_of_keras_reach_the_pooling():
    model = keras.Sequential(
        [keras.layers.Embedding(9, 8, mask_zero=True), block(), RMSNorm(), SequencePooling()]
    )
    padded, bare = (model(tf.constant([tokens])) for tokens in ([3, 4, 0, 0], [3, 4]))
    np.testing.assert_allclose(padded, bare, rtol=1e-5, atol=1e-6)


def test_a_row_without_positions_has_no_attention_and_finite_gradients():
    layer = block()
    without = block()
    scale, fused, attention_out, forward_out = layer.get_weights()
    without.set_weights([scale, fused, np.zeros_like(attention_out), forward_out])
    np.testing.assert_allclose(layer(STATES, MASK)[2], without(STATES)[2], rtol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(STATES)
        outputs = layer(STATES, MASK)
        loss = tf.reduce_sum(outputs**2)
    for gradient in tape.gradient(loss, [STATES, *layer.trainable_weights]):
        assert np.isfinite(gradient).all()


def test_causal_positions_see_the_past_only():
    layer, later = block(causal=True), tf.concat([STATES[:, :3], -STATES[:, 3:]], axis=1)
    np.testing.assert_array_equal(layer(STATES)[:, :3], layer(later)[:, :3])
    # The last position sees the first.
    earlier = tf.concat([-2 * STATES[:, :1] + 1, STATES[:, 1:]], axis=1)
    assert np.abs(layer(STATES)[:, 4] - layer(earlier)[:, 4]).max() > 1e-3


def test_causal_and_padding_masks_join():
    layer = block(causal=True)
    changed = tf.where(MASK[:, :, tf.newaxis], STATES, 1e3)
    np.testing.assert_array_equal(layer(STATES, MASK)[0, :3], layer(changed, MASK)[0, :3])


def test_residual_is_the_input():
    layer, bare = block(), block(residual=False)
    bare.set_weights(layer.get_weights())
    np.testing.assert_allclose(layer(STATES), STATES + bare(STATES), rtol=1e-6)


def test_dropout_is_in_training_only_and_spares_the_residual():
    layer = block(dropout=0.5)
    np.testing.assert_array_equal(layer(STATES), layer(STATES))
    kept = np.isclose(layer(STATES, training=True), STATES)
    assert 0.3 < kept.mean() < 0.7


def test_scores_beyond_half_precision():
    layer = block(1, width=2, ff_multiple=1, dtype="mixed_float16")
    fused = np.zeros([2, 10], np.float32)
    # Queries and keys of (300, 300): their product 180000 is infinite in half precision.
    fused[0, :4], fused[0, 4] = 300, 1
    layer.set_weights([np.ones(2), fused, np.eye(2), np.eye(2)])
    received = layer(tf.constant([[[1.0, -1.0], [1.0, -1.0]]]))
    assert np.isfinite(received).all()
    np.testing.assert_allclose(received[0, 0], [2, -1], rtol=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 0}, "received num_heads=0, ff_multiple=4"),
        ({"num_heads": 1, "ff_multiple": 0}, "received num_heads=1, ff_multiple=0"),
        ({"num_heads": 1, "head_dim": 5}, "even width, as rotations take pairs; received 5"),
        ({"num_heads": 3}, "num_heads=3 divides; received states of width 8: set head_dim"),
        ({"num_heads": 8}, "even width, as rotations take pairs; received 1"),
        ({"num_heads": 1, "dropout": 1.0}, "expected dropout from 0 to below 1; received 1"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        block(**options)


def test_compiles_with_xla():
    layer = block()
    compiled = tf.function(layer, jit_compile=True)
    np.testing.assert_allclose(compiled(STATES, MASK), layer(STATES, MASK), rtol=1e-4, atol=1e-5)


def test_as_a_layer():
    received = run_layer_test(lambda: ParallelTransformerBlock(2, head_dim=6), STATES, MASK)
    assert received.shape == (3, 5, 8)
