"""Random numbers that go on after an interruption where they would have gone on without it."""

from __future__ import annotations

import random

import tensorflow as tf


def random_generator() -> tf.random.Generator:
    """A generator whose state a checkpoint holds once it is an attribute of a layer.

    The generators of Keras' own layers are left out of checkpoints, so a resumed run would draw
    other numbers than an uninterrupted one. Works under XLA.

    Returns:
        A generator with a seed drawn from Python's `random`, which `keras.utils.set_random_seed`
        sets.

    Example:
        >>> import tf_keras as keras
        >>> keras.utils.set_random_seed(1)
        >>> first = random_generator().uniform([2])
        >>> keras.utils.set_random_seed(1)
        >>> bool(tf.reduce_all(random_generator().uniform([2]) == first))
        True
    """
    with tf.init_scope():
        return tf.random.Generator.from_seed(random.getrandbits(62))
