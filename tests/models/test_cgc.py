import numpy as np
import pytest
import tensorflow as tf

from tests.models.conftest import as_tensors, bank, embedded_rows, network, randomize, softmax
from tfmtl.models import CGC, PLE
from tfmtl.schema import Task
from tfmtl.testing import assert_experts_differ

ORDERS = [("click", "click_x", "click_x_y"), ("click_x_y", "click_x", "click")]


def extracted(extraction, rows, shared):
    """Task outputs, and the shared one, of an extraction layer: one task after the other."""
    size = extraction.num_specific_experts
    specific = [
        bank(row, [w[task * size : (task + 1) * size] for w in weights])
        for task, row in enumerate(rows)
        for weights in [extraction.specific_experts.get_weights()]
    ]
    common = bank(shared, extraction.shared_experts.get_weights())

    def mixed(gate, row, experts):
        weights = softmax(network(row, gate.get_weights()))
        return np.einsum("bn,bnh->bh", weights, np.concatenate(experts, axis=1))

    tasks = [
        mixed(extraction.gates[task], row, [specific[task], common])
        for task, row in enumerate(rows)
    ]
    if not extraction.shared_output:
        return tasks, None
    return tasks, mixed(extraction.shared_gate, shared, [*specific, common])


@pytest.mark.parametrize("gate_units", [(), (5,)])
def test_golden(build, log, gate_units):
    model = build("cgc", gate_units=gate_units)
    randomize(model)
    logits = model(as_tensors(log.features))
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    (extraction,) = model.extractions
    tasks, _ = extracted(extraction, [row, row], row)
    for name, hidden in zip(model.task_names, tasks, strict=True):
        expected = network(hidden, model.towers[name].get_weights())[:, 0]
        np.testing.assert_allclose(logits[name], expected, rtol=1e-4, atol=1e-4)


def test_it_is_ple_of_one_layer(build, log):
    model, ple = build("cgc"), build("ple", num_layers=1)
    ple.set_weights(model.get_weights())
    logits, expected = model(as_tensors(log.features)), ple(as_tensors(log.features))
    for task in model.task_names:
        np.testing.assert_array_equal(logits[task], expected[task])


def test_without_private_experts_it_is_mmoe(build, log):
    """Gates that give private experts no weight leave a mixture of the shared ones."""
    model, mmoe = build("cgc", num_shared_experts=3), build("mmoe", num_experts=3)
    randomize(model)
    (extraction,) = model.extractions
    pairs = [(mmoe.embedding, model.embedding), (mmoe.experts, extraction.shared_experts)]
    pairs += [(mmoe.towers[name], model.towers[name]) for name in model.task_names]
    for target, source in pairs:
        target.set_weights(source.get_weights())
    for name, gate in zip(model.task_names, extraction.gates, strict=True):
        kernel, bias = gate.get_weights()
        bias[:2] = -1e9
        gate.set_weights([kernel, bias])
        mmoe.gates[name].set_weights([kernel[:, 2:], bias[2:]])
    logits, expected = model(as_tensors(log.features)), mmoe(as_tensors(log.features))
    for task in model.task_names:
        np.testing.assert_allclose(logits[task], expected[task], rtol=1e-4, atol=1e-5)


def test_without_shared_experts_tasks_share_the_embedding_only(build, log):
    model = build("cgc")
    randomize(model)
    for gate in model.extractions[0].gates:
        kernel, bias = gate.get_weights()
        bias[2:] = -1e9
        gate.set_weights([kernel, bias])
    reached = {}
    for task in model.task_names:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(as_tensors(log.features))[task])
        kernel = model.extractions[0].specific_experts.kernels[0]
        common = model.extractions[0].shared_experts.kernels[0]
        own, shared = tape.gradient(loss, [kernel, common])
        assert not np.any(shared)
        reached[task] = [bool(np.any(part)) for part in own.numpy()]
    assert reached == {"click": [True, True, False, False], "click_x": [False, False, True, True]}


@pytest.mark.parametrize("names", ORDERS)
def test_names_that_begin_alike_have_experts_of_their_own(build, log, names):
    """A peer finds a task's experts by the beginning of their names, and mixes such tasks up."""
    model = build("cgc", tasks=[Task(name=name) for name in names])
    randomize(model)
    experts = model.extractions[0].specific_experts
    assert experts.kernels[0].shape == [6, 19, 6]
    before = model(as_tensors(log.features))
    for number, moved in enumerate(names):
        kernel = experts.kernels[0].numpy()
        kernel[2 * number : 2 * number + 2] += 0.1
        weights = experts.get_weights()
        experts.set_weights([kernel, *weights[1:]])
        after = model(as_tensors(log.features))
        experts.set_weights(weights)
        changed = {name for name in names if np.any(before[name] != after[name])}
        assert changed == {moved}


def test_a_masked_task_moves_none_of_its_experts(build, log):
    model = build("cgc")
    randomize(model)
    weights = {**log.weights, "click_x": np.zeros(11, np.float32)}
    (extraction,) = model.extractions
    watched = [extraction.specific_experts.kernels[0], *extraction.gates[1].trainable_weights]
    with tf.GradientTape() as tape:
        loss = model.compute_loss((as_tensors(log.features), log.labels, weights), training=True)
    kernel, *gate = tape.gradient(loss, watched)
    assert np.any(kernel[:2])
    assert not np.any(kernel[2:])
    assert not any(np.any(gradient) for gradient in gate)


@pytest.mark.parametrize("kernel", [0, 1])
def test_experts_differ_at_the_start(build, kernel):
    (extraction,) = build("cgc", num_specific_experts=3, num_shared_experts=3).extractions
    specific, shared = extraction.specific_experts, extraction.shared_experts
    assert_experts_differ([*specific.kernels[kernel].numpy(), *shared.kernels[kernel].numpy()])


def test_gates_differ_at_the_start(build):
    (extraction,) = build("cgc").extractions
    assert_experts_differ([gate.get_weights()[0] for gate in extraction.gates])


def test_number_of_weights(build):
    # Table 33 * 4; 2 * 2 + 1 experts of [19, 6] + 6 and [6, 4] + 4; per task a gate [19, 3] + 3
    # and a tower [4, 4] + 4 and [4, 1] + 1.
    weights = build("cgc").trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == (
        33 * 4 + 5 * (19 * 6 + 6 + 6 * 4 + 4) + 2 * (19 * 3 + 3 + 4 * 4 + 4 + 4 + 1)
    )


def test_one_task_trains(build, log):
    model = build("cgc", tasks=[Task(name="click")])
    assert issubclass(CGC, PLE)
    assert list(model(as_tensors(log.features))) == ["click"]


def test_needs_shared_experts(build):
    with pytest.raises(ValueError, match="num_specific_experts=2, num_shared_experts=0"):
        build("cgc", num_shared_experts=0)


@pytest.mark.slow
def test_xla_gives_the_same_answers(build, log):
    model = build("cgc", gate_units=(5,))
    compiled_call = tf.function(lambda batch: model(batch), jit_compile=True)
    for task, logits in compiled_call(as_tensors(log.features)).items():
        np.testing.assert_allclose(logits, model(as_tensors(log.features))[task], atol=1e-5)
