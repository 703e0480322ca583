import numpy as np
import pytest
import tensorflow as tf

from tests.models.conftest import as_tensors, embedded_rows, network, randomize
from tests.models.test_cgc import ORDERS, extracted
from tfmtl.schema import Task
from tfmtl.testing import assert_experts_differ, assert_gradients_reach_every_weight


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("gate_units", [(), (5,)])
def test_golden(build, log, num_layers, gate_units):
    model = build("ple", num_layers=num_layers, gate_units=gate_units)
    randomize(model)
    logits = model(as_tensors(log.features))
    shared = embedded_rows(model.embedding.get_weights()[0], log.features)
    tasks = [shared, shared]
    assert len(model.extractions) == num_layers
    for extraction in model.extractions:
        tasks, shared = extracted(extraction, tasks, shared)
    assert shared is None
    for name, hidden in zip(model.task_names, tasks, strict=True):
        expected = network(hidden, model.towers[name].get_weights())[:, 0]
        np.testing.assert_allclose(logits[name], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("names", ORDERS)
def test_names_that_begin_alike_have_experts_of_their_own(build, log, names):
    """In the last layer; below it the shared path hands on what every expert says."""
    model = build("ple", tasks=[Task(name=name) for name in names])
    randomize(model)
    lower, last = (extraction.specific_experts.kernels[0] for extraction in model.extractions)
    for number, task in enumerate(names):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(as_tensors(log.features))[task])
        below, above = tape.gradient(loss, [lower, last])
        own = [2 * number, 2 * number + 1]
        assert np.flatnonzero(np.abs(above).max(axis=(1, 2))).tolist() == own
        assert np.flatnonzero(np.abs(below).max(axis=(1, 2))).tolist() == list(range(6))


def test_tasks_differ_by_their_paths(build, log):
    """With one tower for all, private experts and gates still tell the tasks apart."""
    model = build("ple")
    randomize(model)
    model.towers["click_x"].set_weights(model.towers["click"].get_weights())
    logits = model(as_tensors(log.features))
    assert np.all(np.asarray(logits["click"]) != np.asarray(logits["click_x"]))


@pytest.mark.parametrize("kernel", [0, 1])
def test_experts_differ_at_the_start(build, kernel):
    model = build("ple", num_specific_experts=3, num_shared_experts=3)
    for extraction in model.extractions:
        specific, shared = extraction.specific_experts, extraction.shared_experts
        assert_experts_differ([*specific.kernels[kernel].numpy(), *shared.kernels[kernel].numpy()])


def test_gates_differ_at_the_start(build):
    for extraction in build("ple").extractions:
        assert_experts_differ([gate.get_weights()[0] for gate in extraction.gates])


def test_gradients_reach_every_weight_of_three_layers(build, log):
    model = build("ple", num_layers=3, gate_units=(5,), weighting="static")
    randomize(model)
    assert_gradients_reach_every_weight(model, as_tensors(log.features))


def test_number_of_weights(build):
    # Table 33 * 4. First layer on 19 columns, second on 4: 2 * 2 + 1 experts and per task a gate of
    # 3; the first also has a shared gate of 5. Towers [4, 4] + 4 and [4, 1] + 1.
    def layer(width):
        return 5 * (width * 6 + 6 + 6 * 4 + 4) + 2 * (width * 3 + 3)

    weights = build("ple").trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == (
        33 * 4 + layer(19) + (19 * 5 + 5) + layer(4) + 2 * (4 * 4 + 4 + 4 + 1)
    )


def test_one_task_trains(build, log):
    model = build("ple", tasks=[Task(name="click")])
    assert list(model(as_tensors(log.features))) == ["click"]


def test_needs_a_layer_and_private_experts(build):
    with pytest.raises(ValueError, match="expected at least one extraction layer; received 0"):
        build("ple", num_layers=0)
    with pytest.raises(ValueError, match="num_specific_experts=0, num_shared_experts=1"):
        build("ple", num_specific_experts=0)


@pytest.mark.slow
def test_xla_gives_the_same_answers(build, log):
    model = build("ple", gate_units=(5,))
    compiled_call = tf.function(lambda batch: model(batch), jit_compile=True)
    for task, logits in compiled_call(as_tensors(log.features)).items():
        np.testing.assert_allclose(logits, model(as_tensors(log.features))[task], atol=1e-5)
