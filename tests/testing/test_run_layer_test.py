import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.testing import run_layer_test


@keras.utils.register_keras_serializable(package="tests")
class Blend(keras.layers.Layer):
    """Two dense maps of two arguments, of which the second is a dict with an optional part."""

    def __init__(self, units, *, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.rate = rate

    def build(self, input_shape):
        width = input_shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=[width, self.units])
        self.other = self.add_weight(name="other", shape=[width, self.units])
        super().build(input_shape)

    def call(self, inputs, others):
        blended = self.rate * tf.matmul(inputs, tf.cast(self.kernel, inputs.dtype))
        blended += tf.matmul(others["x"], tf.cast(self.other, inputs.dtype))
        if others["bias"] is not None:
            blended += others["bias"]
        return {"blend": blended, "rows": tf.shape(inputs)[0]}

    def get_config(self):
        return {**super().get_config(), "units": self.units, "rate": self.rate}


X = tf.constant(np.random.default_rng(4).normal(size=[3, 4]), tf.float32)
OTHERS = {"x": X[::-1], "bias": None}


def test_accepts_a_good_layer_with_nested_inputs():
    outputs = run_layer_test(lambda: Blend(2, rate=0.25), X, OTHERS)
    assert outputs["blend"].shape == (3, 2)
    assert outputs["rows"] == 3


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (functools.partial(keras.layers.Dense, 3, "relu"), X),
        (functools.partial(keras.layers.LSTM, 2, return_state=True), tf.stack([X, 3 - X], axis=1)),
        (keras.layers.LayerNormalization, X),
        (keras.layers.Add, [X, X]),
        (keras.layers.Concatenate, (X, 2 * X)),
        (functools.partial(keras.layers.Dropout, 0.5), X),
    ],
)
def test_accepts_layers_of_keras(layer, inputs):
    run_layer_test(layer, inputs)


def test_restores_the_policy():
    run_layer_test(keras.layers.Flatten, X)
    assert keras.mixed_precision.global_policy().name == "float32"


def broken(**methods):
    return keras.utils.register_keras_serializable(package="tests")(
        type("Broken", (Blend,), methods)
    )


def without_rate(self):
    return {**keras.layers.Layer.get_config(self), "units": self.units}


def popping(cls, config):
    return cls(config.pop("units"), **config)


def doubled(self):
    return {**Blend.get_config(self), "units": 2 * self.units}


def build_late(self, input_shape):
    self.other = self.add_weight(name="other", shape=[4, self.units])


def call_late(self, inputs, others):
    if not hasattr(self, "kernel"):
        self.kernel = self.add_weight(name="kernel", shape=[4, self.units])
    return Blend.call(self, inputs, others)


def cut_off(self, inputs, others):
    return Blend.call(self, tf.zeros_like(inputs), others)


def eager_only(self, inputs, others):
    sign = 1 if tf.executing_eagerly() else -1
    return tf.nest.map_structure(lambda output: sign * output, Blend.call(self, inputs, others))


def overflowing(self, inputs, others):
    return Blend.call(self, 1e5 * inputs, others)["blend"] * 1e-5


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"get_config": without_rate}, r"get_config of Broken lacks \['rate'\]"),
        ({"get_config": doubled}, "config .*'units': 4.* came back as .*'units': 8"),
        ({"from_config": classmethod(popping)}, "from_config of Broken changed its argument"),
        ({"build": build_late, "call": call_late}, "build made the weights .* calls left"),
        ({"call": cut_off}, r"no gradient reaches \['broken.*/kernel:0'\]"),
        ({"call": eager_only}, "output 0 of a tf.function differs by"),
        ({"call": overflowing}, "under mixed_float16 differs by"),
    ],
)
def test_refuses(methods, message):
    with pytest.raises(AssertionError, match=message):
        run_layer_test(lambda: broken(**methods)(2), X, OTHERS)


def test_refuses_a_class_that_is_not_registered():
    class Plain(keras.layers.Layer):
        pass

    with pytest.raises(AssertionError, match="does not find Plain as 'Plain'; decorate it"):
        run_layer_test(Plain, X)


def test_unused_weights_are_named():
    layer = broken(call=cut_off)
    run_layer_test(lambda: layer(2), X, OTHERS, unused=["kernel"])
