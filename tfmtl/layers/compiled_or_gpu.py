"""What the operations that are being made will run on."""

from __future__ import annotations

import tensorflow as tf
from tf_keras.src.utils.control_flow_util import GraphOrParentsInXlaContext


def under_xla() -> bool:
    """Whether the operations made now are compiled by XLA.

    Example:
        >>> bool(tf.function(lambda: tf.constant(under_xla()), jit_compile=True)())
        True
    """
    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def compiled_or_gpu() -> bool:
    """Whether the operations made now are compiled by XLA or there is a GPU to run them.

    Both want few large kernels whose shapes do not depend on the data; a CPU wants no value copied.

    Example:
        >>> bool(tf.function(lambda: tf.constant(compiled_or_gpu()), jit_compile=True)())
        True
    """
    return under_xla() or bool(tf.config.list_logical_devices("GPU"))
