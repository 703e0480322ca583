"""Checks that no trainable weight is cut off from the outputs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.testing.probe_loss import probe_loss


def assert_gradients_reach_every_weight(
    layer: keras.layers.Layer, *inputs: Any, unused: Collection[str] = ()
) -> None:
    """Fails unless a loss on the outputs has a gradient in every trainable weight.

    A gradient counts when at least one of its elements is not zero; a weight that is NaN or
    infinite in its gradient fails.

    Args:
        layer: A layer or model; built by the call if it is not.
        *inputs: Arguments of the call.
        unused: Parts of names of weights that these inputs leave without a gradient. One that
            receives a gradient, or that no weight has in its name, fails too.

    Raises:
        AssertionError: Naming the weights.

    Example:
        >>> dense = keras.layers.Dense(2)
        >>> assert_gradients_reach_every_weight(dense, tf.ones([3, 4]))
        >>> assert_gradients_reach_every_weight(dense, tf.zeros([3, 4]), unused=["kernel"])
    """
    with tf.GradientTape() as tape:
        loss = probe_loss(layer(*inputs, training=False))
    weights = layer.trainable_weights
    names = [weight.name for weight in weights]
    unknown = [part for part in unused if not any(part in name for name in names)]
    assert not unknown, f"no trainable weight is called {unknown}; received {names}"
    reached, broken = set(), []
    for number, gradient in enumerate(tape.gradient(loss, weights)):
        if gradient is None:
            continue
        values = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
        if not bool(tf.reduce_all(tf.math.is_finite(values))):
            broken.append(names[number])
        if bool(tf.reduce_any(values != 0)):
            reached.add(number)
    assert not broken, f"gradients of {broken} are not finite"
    expected = {
        number for number, name in enumerate(names) if not any(part in name for part in unused)
    }
    cut_off = [names[number] for number in sorted(expected - reached)]
    assert not cut_off, f"no gradient reaches {cut_off}"
    surprising = [names[number] for number in sorted(reached - expected)]
    assert not surprising, f"expected no gradient in {surprising}, listed as unused"
