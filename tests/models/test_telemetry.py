"""Telemetry of every model of the package, which need no code for it."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from tests.models.conftest import as_tensors, randomize
from tfmtl.training import Telemetry

COSINE = "telemetry/gradient_cosine/click/click_x"
# Gates of the small models, and the number of experts that each sees.
GATES = {
    "omoe": {"gate": 3},
    "mmoe": {"click_gate": 3, "click_x_gate": 3},
    "cgc": {"extraction_0/gate_0": 3, "extraction_0/gate_1": 3},
    "ple": {
        "extraction_0/gate_0": 3,
        "extraction_0/gate_1": 3,
        "extraction_0/shared_gate": 5,
        "extraction_1/gate_0": 3,
        "extraction_1/gate_1": 3,
    },
    "stem": {"click_gate": 3, "click_x_gate": 3},
    "home": {
        "meta_level/gate_0": 4,
        "meta_level/gate_1": 4,
        "meta_level/self_gate_0": 2,
        "meta_level/self_gate_1": 2,
        "task_level/gate_0": 6,
        "task_level/gate_1": 6,
        "task_level/self_gate_0": 2,
        "task_level/self_gate_1": 2,
    },
    "grec": {"moe": 2},
    "mogenet": {"click_gate": 2, "click_x_gate": 2},
    "mgoe": {
        "macro_bottom/macro_graph_bottom/click_gate": 2,
        "macro_bottom/macro_graph_bottom/click_x_gate": 2,
    },
}


def observed(model, log, bundle, batch_size):
    telemetry = Telemetry(log, bundle=bundle, batch_size=batch_size)
    telemetry.set_model(model)
    return telemetry.observe()


def test_every_model_shows_its_gates_and_gradients(name, build, log, bundle):
    model = build(name)
    randomize(model)
    before = [weight.numpy() for weight in model.weights]
    values = observed(model, log, bundle, batch_size=4)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    gates = GATES.get(name, {})
    for gate, experts in gates.items():
        start = f"telemetry/gate/{gate}"
        loads = [value for key, value in values.items() if key.startswith(f"{start}/load_")]
        assert len(loads) == experts
        assert min(loads) >= 0
        assert sum(loads) == pytest.approx(1, rel=1e-5)
        if name == "grec":
            # One expert for every pair of a row and a task: that is certain.
            assert values[f"{start}/entropy"] == 0
        else:
            assert 0 < values[f"{start}/entropy"] < 1
    expected = sum(experts + 1 for experts in gates.values()) + (1 if gates else 0)
    if name != "single_task":
        expected += 3
        assert -1 < values[COSINE] < 1
        assert values["telemetry/gradient_norm/click"] > 0
    assert len(values) == expected
    # Whatever the batches, the rows are the same.
    assert observed(model, log, bundle, batch_size=11) == pytest.approx(values, rel=1e-4, abs=1e-6)


def test_half_precision_changes_little(name, half_precision, build, log, bundle):
    model = build(name)
    values = observed(model, log, bundle, batch_size=11)
    assert all(math.isfinite(value) for value in values.values())
    if name != "single_task":
        assert values["telemetry/gradient_norm/click"] > 0
        assert values[COSINE] != 0


def test_a_model_that_shares_nothing_but_a_graph_compares_gradients_there(build, log, bundle):
    alone = build("single_task")
    assert observed(alone, log, bundle, batch_size=11) == {}
    options = {"dim": 4, "channels": ("interaction",), "num_layers": 1}
    model = build("single_task", bottom={"mgnn": options})
    assert abs(observed(model, log, bundle, batch_size=11)[COSINE]) > 1e-3


def test_gradients_are_those_of_the_losses_at_the_input_of_the_network(build, log):
    model = build("shared_bottom")
    randomize(model)
    row = model.feature_input(as_tensors(log.features))
    gradients = []
    for task in model.task_names:
        with tf.GradientTape() as tape:
            tape.watch(row)
            logits = model.towers[task](model.bottom(row))
            losses = model.task_losses(
                {**dict.fromkeys(model.task_names, logits), task: logits}, log.labels, log.weights
            )
        gradients.append(tape.gradient(losses[task], row).numpy())
    norms = [np.linalg.norm(gradient) for gradient in gradients]
    values = observed(model, log, None, batch_size=4)
    cosine = (gradients[0] * gradients[1]).sum() / norms[0] / norms[1]
    assert values[COSINE] == pytest.approx(cosine, rel=1e-4)
    for task, norm in zip(model.task_names, norms, strict=True):
        # Of the mean over n rows: their root mean square is larger by the root of n.
        expected = norm * math.sqrt(log.weights[task].sum())
        assert values[f"telemetry/gradient_norm/{task}"] == pytest.approx(expected, rel=1e-4)


def test_a_task_without_rows_has_no_direction(build, log):
    none = {**log.weights, "click_x": np.zeros(11, np.float32)}
    values = observed(build("mmoe"), dataclasses.replace(log, weights=none), None, batch_size=4)
    assert math.isnan(values[COSINE])
    assert math.isnan(values["telemetry/gradient_norm/click_x"])
    assert values["telemetry/gradient_norm/click"] > 0
