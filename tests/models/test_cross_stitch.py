import numpy as np
import pytest

from tests.models.conftest import TASKS, as_tensors, embedded_rows, leaky, network, randomize
from tfmtl.schema import Task
from tfmtl.testing import assert_experts_differ

THREE = (*TASKS, Task(name="like"))


def dense(inputs, weights, task):
    kernel, bias = weights
    return leaky(inputs @ kernel[task] + bias[task])


@pytest.mark.parametrize("options", [{}, {"tower_units": (5,)}, {"per_channel": True}])
def test_golden(build, log, options):
    model = build("cross_stitch", tasks=THREE, **options)
    randomize(model)
    logits = model(as_tensors(log.features))
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    hidden = [row] * 3
    for layer, stitch in zip(model.networks, model.stitches, strict=True):
        weights, (alpha,) = layer.get_weights(), stitch.get_weights()
        own = [dense(hidden[task], weights, task) for task in range(3)]
        hidden = [sum(alpha[t, s] * own[s] for s in range(3)) for t in range(3)]
    for number, task in enumerate(model.task_names):
        expected = network(hidden[number], model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-4, atol=1e-4)


def test_without_mixing_the_networks_are_independent(build, log):
    model = build("cross_stitch")
    randomize(model)
    for stitch in model.stitches:
        stitch.alpha.assign(np.eye(2))
    features = as_tensors(log.features)
    before = model(features)
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    for number, task in enumerate(model.task_names):
        hidden = row
        for layer in model.networks:
            hidden = dense(hidden, layer.get_weights(), number)
        expected = network(hidden, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(before[task], expected, rtol=1e-4, atol=1e-4)
    for layer in model.networks:
        kernel = layer.kernels[0]
        kernel.assign(kernel * np.reshape([1, -2], [2, 1, 1]))
    after = model(features)
    np.testing.assert_array_equal(before["click"], after["click"])
    assert np.all(before["click_x"] != after["click_x"])


def test_one_task_starts_as_a_plain_network(build, log):
    model = build("cross_stitch", tasks=TASKS[:1])
    hidden = embedded_rows(model.embedding.get_weights()[0], log.features)
    for layer in model.networks:
        hidden = dense(hidden, layer.get_weights(), 0)
    expected = network(hidden, model.towers["click"].get_weights())[:, 0]
    received = model(as_tensors(log.features))["click"]
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", [0, 1])
def test_networks_differ_at_the_start(build, level):
    model = build("cross_stitch", tasks=THREE)
    assert_experts_differ(model.networks[level].kernels[0].numpy())


@pytest.mark.parametrize("per_channel", [False, True])
def test_number_of_weights(build, per_channel):
    # Table 33 * 4; per task [19, 6] + 6, [6, 4] + 4 and the logit 4 + 1; per layer alpha [2, 2],
    # or one for each of its 6 or 4 channels.
    weights = build("cross_stitch", per_channel=per_channel).trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == (
        33 * 4 + 2 * (19 * 6 + 6 + 6 * 4 + 4 + 4 + 1) + (4 * 6 + 4 * 4 if per_channel else 4 + 4)
    )


def test_alpha_bears_no_penalty(build):
    model = build("cross_stitch", l2=0.1)
    kernels = [weight for weight in model.trainable_weights if "kernel" in weight.name]
    expected = 0.1 * sum(np.square(kernel.numpy()).sum() for kernel in kernels)
    assert sum(float(loss) for loss in model.losses) == pytest.approx(expected, rel=1e-5)


def test_refuses_networks_without_layers(build):
    with pytest.raises(ValueError, match=r"units of at least one layer to mix; received \[\]: use"):
        build("cross_stitch", units=())
