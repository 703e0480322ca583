import numpy as np
import pytest

from tests.models.conftest import as_tensors, bank, embedded_rows, network, randomize, softmax
from tfmtl.testing import assert_experts_differ


@pytest.mark.parametrize("gate_units", [(), (5,)])
def test_golden(build, log, gate_units):
    model = build("mmoe", gate_units=gate_units)
    randomize(model)
    logits = model(as_tensors(log.features))
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    experts = bank(row, model.experts.get_weights())
    for task in model.task_names:
        gate = softmax(network(row, model.gates[task].get_weights()))
        mixed = np.einsum("be,beh->bh", gate, experts)
        expected = network(mixed, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [0, 1])
def test_experts_differ_at_the_start(build, kernel):
    assert_experts_differ(build("mmoe", num_experts=8).experts.kernels[kernel].numpy())


def test_gates_differ_at_the_start(build):
    model = build("mmoe")
    assert_experts_differ([model.gates[task].get_weights()[0] for task in model.task_names])


def test_one_expert_is_a_shared_bottom(build, log):
    model = build("mmoe", num_experts=1)
    randomize(model)
    before = model(as_tensors(log.features))
    for gate in model.gates.values():
        for weight in gate.trainable_weights:
            weight.assign(-3 * weight)
    after = model(as_tensors(log.features))
    for task in model.task_names:
        np.testing.assert_allclose(before[task], after[task], rtol=1e-6)


def test_number_of_weights(build):
    # Table 33 * 4; 3 experts of [19, 6] + 6 and [6, 4] + 4; per task a gate [19, 3] + 3 and a
    # tower [4, 4] + 4 and [4, 1] + 1.
    weights = build("mmoe").trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == (
        33 * 4 + 3 * (19 * 6 + 6 + 6 * 4 + 4) + 2 * (19 * 3 + 3 + 4 * 4 + 4 + 4 + 1)
    )
