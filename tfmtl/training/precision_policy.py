"""The arithmetic of a model's layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import tf_keras as keras

Precision = Literal["float32", "bfloat16", "float16"]


@contextmanager
def precision_policy(precision: Precision) -> Iterator[None]:
    """Layers made inside compute in `precision`; their weights are `float32` with any of them.

    Args:
        precision: `float32`, `bfloat16` or `float16`; a model compiled inside under `float16`
            scales its loss.

    Example:
        >>> with precision_policy("bfloat16"):
        ...     layer = keras.layers.Dense(1)
        >>> layer.compute_dtype, layer.variable_dtype, keras.layers.Dense(1).compute_dtype
        ('bfloat16', 'float32', 'float32')
    """
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(
        precision if precision == "float32" else f"mixed_{precision}"
    )
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
