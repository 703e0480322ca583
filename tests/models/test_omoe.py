import numpy as np
import pytest
import tensorflow as tf

from tests.models.conftest import as_tensors, bank, embedded_rows, network, randomize, softmax
from tfmtl.testing import assert_experts_differ


@pytest.mark.parametrize("gate_units", [(), (5,)])
def test_golden(build, log, gate_units):
    model = build("omoe", gate_units=gate_units)
    randomize(model)
    logits = model(as_tensors(log.features))
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    gate = softmax(network(row, model.gate.get_weights()))
    mixed = np.einsum("be,beh->bh", gate, bank(row, model.experts.get_weights()))
    for task in model.task_names:
        expected = network(mixed, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [0, 1])
def test_experts_differ_at_the_start(build, kernel):
    assert_experts_differ(build("omoe", num_experts=8).experts.kernels[kernel].numpy())


def test_equals_mmoe_with_equal_gates(build, log):
    model, mmoe = build("omoe"), build("mmoe")
    randomize(model)
    pairs = [
        (mmoe.embedding, model.embedding),
        (mmoe.experts, model.experts),
        *((gate, model.gate) for gate in mmoe.gates.values()),
        *((mmoe.towers[name], model.towers[name]) for name in model.task_names),
    ]
    for copy, original in pairs:
        copy.set_weights(original.get_weights())
    features = as_tensors(log.features)
    received, expected = model(features), mmoe(features)
    for task in model.task_names:
        np.testing.assert_allclose(received[task], expected[task], rtol=1e-5, atol=1e-6)


def test_one_expert_is_a_shared_bottom(build, log):
    model = build("omoe", num_experts=1)
    randomize(model)
    before = model(as_tensors(log.features))
    for weight in model.gate.trainable_weights:
        weight.assign(-3 * weight)
    after = model(as_tensors(log.features))
    for task in model.task_names:
        np.testing.assert_allclose(before[task], after[task], rtol=1e-6)


def test_every_task_moves_the_gate(build, log):
    model = build("omoe")
    for task in model.task_names:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(as_tensors(log.features))[task])
        assert np.any(tape.gradient(loss, model.gate.trainable_weights[0]))


def test_number_of_weights(build):
    # Table 33 * 4; 3 experts of [19, 6] + 6 and [6, 4] + 4; a gate [19, 3] + 3; per task a tower
    # [4, 4] + 4 and [4, 1] + 1.
    weights = build("omoe").trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == (
        33 * 4 + 3 * (19 * 6 + 6 + 6 * 4 + 4) + 19 * 3 + 3 + 2 * (4 * 4 + 4 + 4 + 1)
    )
