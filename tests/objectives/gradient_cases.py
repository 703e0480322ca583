"""What tests of the weightings share: tasks by number, and their gradients as rows of a matrix."""

import numpy as np
import tensorflow as tf

NAMES = ("like", "click", "buy", "share", "follow")


def weights_by_task(number, weight=1.0):
    return dict.fromkeys(NAMES[:number], weight)


def losses_of(*values):
    return {name: tf.constant(float(value)) for name, value in zip(NAMES, values, strict=False)}


def solve(weighting, gradients, losses=None, jit_compile=False):
    """The weights for gradients `[T, P]`, in one trace as in training."""
    gradients = np.asarray(gradients, np.float64)
    losses = losses_of(*([1.0] * len(gradients) if losses is None else losses))
    weighting(losses)

    @tf.function(jit_compile=jit_compile)
    def weights(gram):
        return weighting.task_weights(losses, gram)

    with np.errstate(invalid="ignore"):
        gram = tf.constant(gradients @ gradients.T, tf.float32)
    return weights(gram).numpy().astype(np.float64)


def random_gradients(seed, number=4, size=30, spread=0.7):
    """Gradients with a common part, so that few conflict, of lengths that differ."""
    rng = np.random.default_rng(seed)
    scales = 10 ** rng.uniform(-spread, spread, [number, 1])
    return scales * (rng.normal(size=[number, size]) + 0.4 * rng.normal(size=size))
