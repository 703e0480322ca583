import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.layers import Dropout
from tfmtl.testing import run_layer_test

ONES = tf.ones([400, 25])


def test_a_share_is_dropped_and_the_others_scaled():
    keras.utils.set_random_seed(3)
    dropped = Dropout(0.2)(ONES, training=True).numpy()
    np.testing.assert_allclose(np.unique(dropped), [0, 1.25])
    # Ten thousand draws: four deviations are 0.016.
    assert abs((dropped == 0).mean() - 0.2) < 0.016


@pytest.mark.parametrize("training", [False, None])
def test_outside_training_nothing_is_dropped(training):
    assert Dropout(0.9)(ONES, training=training) is ONES


def test_every_call_draws_anew():
    layer = Dropout(0.5)
    first, second = (layer(ONES, training=True).numpy() for _ in range(2))
    assert (first != second).mean() > 0.3


def test_the_seed_of_keras_decides():
    draws = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        draws.append(Dropout(0.5)(ONES, training=True).numpy())
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_a_checkpoint_holds_where_the_draws_are(tmp_path):
    layer, other = Dropout(0.5), Dropout(0.5)
    for one in (layer, other):
        one(ONES, training=True)
    path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / "checkpoint"))
    expected = layer(ONES, training=True)
    assert (other(ONES, training=True).numpy() != expected.numpy()).any()
    tf.train.Checkpoint(layer=other).restore(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(other(ONES, training=True), expected)


def test_xla():
    layer = Dropout(0.5)
    layer.build(ONES.shape)
    compiled = tf.function(lambda values: layer(values, training=True), jit_compile=True)
    first, second = compiled(ONES), compiled(ONES)
    assert sorted(np.unique(first)) == [0, 2]
    assert (first.numpy() != second.numpy()).any()


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_out_of_range(rate):
    with pytest.raises(ValueError, match=f"expected dropout from 0 to below 1; received {rate}"):
        Dropout(rate)


def test_as_a_layer():
    run_layer_test(lambda: Dropout(0.3), tf.ones([5, 4]))
