import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import TextEncoder
from tfmtl.testing import run_layer_test


def encoder(**options):
    layer = TextEncoder(20, 8, **options)
    layer.build([None, None])
    # Embeddings as small as they start leave little to see.
    layer.weights[0].assign(np.random.default_rng(3).normal(size=[20, 8]))
    return layer


def test_padding_makes_no_difference():
    layer = encoder(num_blocks=2)
    np.testing.assert_allclose(
        layer(tf.constant([[3, 9, 4, 0, 0]])), layer(tf.constant([[3, 9, 4]])), rtol=1e-5, atol=1e-6
    )


def test_order_counts_where_there_is_a_block():
    texts, turned = tf.constant([[3, 9, 4]]), tf.constant([[4, 9, 3]])
    assert np.abs(encoder()(texts) - encoder()(turned)).max() > 1e-4
    layer = encoder(num_blocks=0)
    np.testing.assert_allclose(layer(texts), layer(turned), rtol=1e-5, atol=1e-6)


def test_empty_and_unknown_texts_share_the_learned_vector():
    layer = encoder()
    received = layer(tf.constant([[0, 0], [20, 999], [-1, 0], [3, 0]])).numpy()
    # Pooling makes zeros of nothing: the inner bias through the outer map, and the outer bias.
    inner_bias, outer, outer_bias = layer.get_weights()[-3:]
    for row in received[:3]:
        np.testing.assert_allclose(row, inner_bias @ outer + outer_bias, rtol=1e-6)
    assert np.abs(received[3] - received[0]).max() > 1e-3


def test_dropout_is_in_training_only():
    layer, texts = encoder(dropout=0.5), tf.constant([[3, 9, 4]])
    np.testing.assert_array_equal(layer(texts), layer(texts))
    assert np.abs(layer(texts, training=True) - layer(texts)).max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary_size": 1, "units": 8}, "received vocabulary_size=1, units=8, num_blocks=1"),
        ({"vocabulary_size": 5, "units": 0}, "received vocabulary_size=5, units=0, num_blocks=1"),
        ({"vocabulary_size": 5, "units": 4, "num_blocks": -1}, "num_blocks=-1: count the padding"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TextEncoder(**arguments)


def test_as_a_layer():
    texts = tf.constant([[3, 9, 4, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    assert run_layer_test(lambda: TextEncoder(20, 8, num_heads=2), texts).shape == (3, 8)
