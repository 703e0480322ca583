"""Every model trains under XLA, to what it would come to without."""

import numpy as np
import pytest
import tf_keras as keras

# Fixtures of the models' own tests.
from tests.models.conftest import (  # noqa: F401
    build,
    bundle,
    compiled,
    dataset,
    log,
    macro_graph,
    name,
    node_features,
    randomize,
    sampler,
)


@pytest.mark.slow
def test_a_step_under_xla_equals_one_without(name, build, dataset):  # noqa: F811
    # Of known size, as XLA wants it; the graph of the one batch is what it is.
    batch = dataset(build(name, seed=1)).take(1)
    weights = []
    for jit_compile in (False, True):
        model = build(name, seed=1)
        randomize(model)
        compiled(model, keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        model.fit(batch, verbose=0)
        weights.append(model.get_weights())
    for received, expected in zip(*weights, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)
