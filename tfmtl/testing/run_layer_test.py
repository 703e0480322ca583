"""The one test every layer takes."""

from __future__ import annotations

import copy
import inspect
import json
import math
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfmtl.testing.assert_gradients_reach_every_weight import assert_gradients_reach_every_weight
from tfmtl.testing.probe_loss import probe_loss

_SUFFIX = {"tf": "", "keras": ".keras"}


def run_layer_test(
    factory: Callable[[], keras.layers.Layer],
    *inputs: Any,
    unused: Collection[str] = (),
    formats: Collection[Literal["tf", "keras"]] = ("tf", "keras"),
    tolerance: float = 1e-5,
    half_tolerance: float = 2e-2,
) -> Any:
    """Takes a layer through what users do with layers.

    - Its config goes through JSON, holds every constructor argument, and makes an equal layer;
      the class is registered with Keras.
    - `build` creates all weights: calls add none.
    - Eager calls, a `tf.function` and a functional model with unknown leading dimensions agree.
    - `fit` takes a step, and gradients reach every trainable weight.
    - Under the policy `mixed_float16` weights stay in float32 and outputs stay close.
    - A functional model is saved, loaded without custom objects, and gives the same outputs.

    Args:
        factory: Makes the layer; for a class with arguments, `functools.partial` or a lambda.
        *inputs: Arguments of the layer's call: tensors or structures of tensors, `None` included.
        unused: Parts of names of weights that these inputs leave without a gradient.
        formats: Formats to save in: `tf` for SavedModel, `keras` for one file. Empty for a layer
            that only other layers call, with arguments such as named tuples that Keras does not
            restore in a functional model.
        tolerance: Largest difference of outputs, relative to the largest output or 1.
        half_tolerance: The same under `mixed_float16`.

    Returns:
        The layer's outputs, as NumPy arrays.

    Raises:
        AssertionError: Naming what did not hold.

    Example:
        >>> outputs = run_layer_test(lambda: keras.layers.Dense(2), tf.ones([3, 4]))
        >>> outputs.shape
        (3, 2)
    """
    layer = factory()
    clone = _through_config(layer)
    layer.build(tf.nest.map_structure(lambda tensor: tensor.shape, inputs[0]))
    built = [weight.name for weight in layer.weights]
    outputs = layer(*inputs)
    layer(*inputs)
    called = [weight.name for weight in layer.weights]
    assert called == built, f"build made the weights {built}; calls left {called}"

    clone(*inputs)
    clone.set_weights(layer.get_weights())
    _assert_close("the layer made from the config", clone(*inputs), outputs, tolerance)
    _assert_close("a tf.function", tf.function(layer)(*inputs), outputs, tolerance)

    model, tensors = _functional(layer, inputs)
    _assert_close("a functional model", model(tensors), outputs, tolerance)
    with tempfile.TemporaryDirectory() as folder:
        for form in formats:
            path = Path(folder, f"model{_SUFFIX[form]}")
            model.save(path, save_format=form)
            loaded = keras.models.load_model(path)
            _assert_close(f"the model saved as {form!r}", loaded(tensors), outputs, tolerance)

    _assert_half_precision(factory, layer, inputs, outputs, half_tolerance)
    assert_gradients_reach_every_weight(clone, *inputs, unused=unused)
    _assert_fits(clone, inputs)
    return tf.nest.map_structure(np.asarray, outputs)


def _through_config(layer: keras.layers.Layer) -> keras.layers.Layer:
    cls = type(layer)
    config = json.loads(json.dumps(layer.get_config()))
    registered = keras.utils.get_registered_name(cls)
    try:
        # The older format, as in a SavedModel, knows classes by their registered name only.
        keras.layers.deserialize(
            {"class_name": registered, "config": copy.deepcopy(config)}, use_legacy_format=True
        )
    except ValueError as error:
        raise AssertionError(
            f"Keras does not find {cls.__name__} as {registered!r}; "
            "decorate it with keras.utils.register_keras_serializable"
        ) from error
    missing = {
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    } - set(config)
    assert not missing, f"get_config of {cls.__name__} lacks {sorted(missing)}"
    given = copy.deepcopy(config)
    clone = cls.from_config(given)
    assert given == config, f"from_config of {cls.__name__} changed its argument"
    again = json.loads(json.dumps(clone.get_config()))
    assert again == config, f"config {config} came back as {again}"
    return clone


def _functional(layer: keras.layers.Layer, inputs: Any) -> tuple[keras.Model, list[Any]]:
    """A model of the layer, and its inputs as the flat list the model takes."""
    symbols, tensors = [], []

    def symbol(leaf: Any) -> Any:
        if leaf is None:
            return None
        spec = tf.type_spec_from_value(leaf)
        if isinstance(spec, tf.TensorSpec) and spec.shape.rank:
            spec = tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)
        symbols.append(keras.Input(type_spec=spec))
        tensors.append(leaf)
        return symbols[-1]

    return keras.Model(symbols, layer(*tf.nest.map_structure(symbol, inputs))), tensors


def _assert_half_precision(
    factory: Callable[[], keras.layers.Layer],
    layer: keras.layers.Layer,
    inputs: Any,
    outputs: Any,
    tolerance: float,
) -> None:
    def halve(leaf: Any) -> Any:
        floating = isinstance(leaf, tf.Tensor) and leaf.dtype.is_floating
        return tf.cast(leaf, tf.float16) if floating else leaf

    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        half = factory()
        halved = tf.nest.map_structure(halve, inputs)
        half(*halved)
        half.set_weights(layer.get_weights())
        stored = {w.name: w.dtype.name for w in half.trainable_weights if w.dtype != tf.float32}
        assert not stored, f"expected float32 weights under mixed_float16; received {stored}"
        _assert_close("the layer under mixed_float16", half(*halved), outputs, tolerance)
    finally:
        keras.mixed_precision.set_global_policy(policy)


def _assert_fits(layer: keras.layers.Layer, inputs: Any) -> None:
    if not layer.trainable_weights:
        return
    before = layer.get_weights()
    model = _Probed(layer)
    model.compile(optimizer=keras.optimizers.SGD(1.0))
    history = model.fit(tf.data.Dataset.from_tensors(inputs), verbose=0)
    assert math.isfinite(history.history["loss"][0]), (
        "one step of fit left a loss that is not finite"
    )
    changed = [not np.array_equal(*pair) for pair in zip(before, layer.get_weights(), strict=True)]
    assert any(changed), "one step of fit changed no weight"


def _assert_close(what: str, received: Any, expected: Any, tolerance: float) -> None:
    # A saved model may return a list where the layer returns a tuple.
    tf.nest.assert_same_structure(received, expected, check_types=False)
    pairs = zip(tf.nest.flatten(received), tf.nest.flatten(expected), strict=True)
    for number, pair in enumerate(pairs):
        left, right = (np.asarray(value) for value in pair)
        assert left.shape == right.shape, (
            f"output {number} of {what} has shape {left.shape}; expected {right.shape}"
        )
        if not np.issubdtype(right.dtype, np.floating):
            assert np.array_equal(left, right), f"output {number} of {what} differs"
            continue
        left, right = left.astype(np.float64), right.astype(np.float64)
        difference = np.abs(left - right).max(initial=0)
        allowed = tolerance * np.abs(right).max(initial=1)
        assert difference <= allowed, (
            f"output {number} of {what} differs by {difference:.2e}; expected at most {allowed:.2e}"
        )


class _Probed(keras.Model):
    """Trains a layer on the probe loss of its outputs."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__()
        self.probed = layer

    def train_step(self, inputs: Any) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = probe_loss(self.probed(*inputs, training=True))
        weights = self.probed.trainable_weights
        gradients = tape.gradient(loss, weights)
        pairs = [pair for pair in zip(gradients, weights, strict=True) if pair[0] is not None]
        self.optimizer.apply_gradients(pairs)
        return {"loss": loss}
