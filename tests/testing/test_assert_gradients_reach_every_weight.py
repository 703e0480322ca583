import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.testing import assert_gradients_reach_every_weight


class Scaled(keras.layers.Layer):
    """A scale that is used, and a shift that may be cut off or made infinite."""

    def __init__(self, shift):
        super().__init__()
        self.scale = self.add_weight(name="scale", shape=[2], initializer="ones")
        self.shift = self.add_weight(name="shift", shape=[2], initializer="zeros")
        self.use = shift

    def call(self, inputs):
        return self.scale * inputs + self.use(self.shift)


INPUTS = tf.constant([[1.0, 2.0]])


def test_accepts_softmax_and_sparse_gradients():
    model = keras.Sequential(
        [
            keras.layers.Embedding(5, 3, input_length=2),
            keras.layers.Flatten(),
            keras.layers.Dense(4, "softmax"),
        ]
    )
    assert_gradients_reach_every_weight(model, tf.constant([[1, 4], [0, 1]]))


@pytest.mark.parametrize("cut", [tf.stop_gradient, lambda shift: 0.0 * shift, lambda shift: 0.0])
def test_names_the_weight_cut_off(cut):
    with pytest.raises(AssertionError, match=r"no gradient reaches \['shift:0'\]"):
        assert_gradients_reach_every_weight(Scaled(cut), INPUTS)
    assert_gradients_reach_every_weight(Scaled(cut), INPUTS, unused=["shift"])


def test_refuses_gradients_that_are_not_finite():
    with pytest.raises(AssertionError, match=r"gradients of \['shift:0'\] are not finite"):
        assert_gradients_reach_every_weight(Scaled(tf.sqrt), INPUTS)


def test_refuses_a_list_of_unused_weights_that_is_wrong():
    with pytest.raises(AssertionError, match=r"no gradient in \['shift:0'\], listed as unused"):
        assert_gradients_reach_every_weight(Scaled(tf.identity), INPUTS, unused=["shift"])
    with pytest.raises(AssertionError, match=r"called \['bias'\]; received \['scale:0'"):
        assert_gradients_reach_every_weight(Scaled(tf.identity), INPUTS, unused=["bias"])
