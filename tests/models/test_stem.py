import numpy as np
import pytest
import tensorflow as tf

from tests.models.conftest import as_tensors, bank, embedded_rows, network, randomize, softmax
from tfmtl.schema import Task
from tfmtl.testing import assert_experts_differ

THREE = [Task(name=name) for name in ("click_x", "click", "click_x_y")]


def tables(model):
    return {name: embedding.trainable_weights[0] for name, embedding in model.embeddings.items()}


@pytest.mark.parametrize("gate_units", [(), (5,)])
@pytest.mark.parametrize("experts", [1, 2])
def test_golden(build, log, gate_units, experts):
    model = build("stem", gate_units=gate_units, num_specific_experts=experts, num_shared_experts=2)
    randomize(model)
    logits = model(as_tensors(log.features))
    shared_row = embedded_rows(model.embedding.get_weights()[0], log.features)
    shared = bank(shared_row, model.shared_experts.get_weights())
    rows, specific = {}, []
    for number, (name, table) in enumerate(tables(model).items()):
        rows[name] = embedded_rows(table.numpy(), log.features)
        own = slice(number * experts, (number + 1) * experts)
        weights = [weight[own] for weight in model.specific_experts.get_weights()]
        specific.append(bank(rows[name], weights))
    for name in model.task_names:
        gate = softmax(network(rows[name] + shared_row, model.gates[name].get_weights()))
        mixed = np.einsum("bn,bnh->bh", gate, np.concatenate([*specific, shared], axis=1))
        expected = network(mixed, model.towers[name].get_weights())[:, 0]
        np.testing.assert_allclose(logits[name], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("experts", [1, 2])
def test_a_task_teaches_no_table_and_no_expert_of_another(build, log, experts):
    model = build("stem", tasks=THREE, num_specific_experts=experts)
    randomize(model)
    for number, task in enumerate(model.task_names):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(as_tensors(log.features))[task] ** 2)
        gradients = tape.gradient(
            loss,
            {
                "tables": tables(model),
                "experts": model.specific_experts.trainable_weights,
                "gates": {name: gate.trainable_weights for name, gate in model.gates.items()},
                "shared": [model.embedding.trainable_weights, model.shared_experts.kernels],
            },
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        dense = tf.nest.map_structure(tf.convert_to_tensor, gradients)
        own = range(number * experts, (number + 1) * experts)
        for gradient in dense["experts"]:
            columns = tuple(range(1, gradient.shape.rank))
            assert np.flatnonzero(np.abs(gradient).max(axis=columns)).tolist() == list(own)
        for name in model.task_names:
            assert bool(np.any(dense["tables"][name])) == (name == task)
            assert bool(np.any(dense["gates"][name][0])) == (name == task)
        for gradient in tf.nest.flatten(dense["shared"]):
            assert np.any(gradient)


def test_a_task_reads_the_experts_of_the_others(build, log):
    model = build("stem")
    randomize(model)
    before = model(as_tensors(log.features))["click"]
    table = tables(model)["click_x"]
    table.assign_add(0.1 * tf.ones_like(table))
    after = model(as_tensors(log.features))["click"]
    assert np.all(np.abs(after - before) > 1e-6)


def test_training_one_task_leaves_what_is_private_to_the_other(build, log):
    model = build("stem")
    weights = {"click": log.weights["click"], "click_x": np.zeros(11, np.float32)}
    batch = tf.data.Dataset.from_tensors((log.features, log.labels, weights))

    def private(name, number):
        experts = [weight[number] for weight in model.specific_experts.get_weights()]
        layers = (model.embeddings[name], model.gates[name], model.towers[name])
        return [*experts, *(weight for layer in layers for weight in layer.get_weights())]

    before = [private("click", 0), private("click_x", 1)]
    model.compile(optimizer="adam")
    model.fit(batch, epochs=3, verbose=0)
    after = [private("click", 0), private("click_x", 1)]
    for one, other in zip(before[1], after[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(np.any(one != other) for one, other in zip(before[0], after[0], strict=True))


def test_everything_starts_differently(build):
    model = build("stem", num_specific_experts=2, num_shared_experts=2, tasks=THREE)
    assert_experts_differ([*(t.numpy() for t in tables(model).values()), *model.embedding.weights])
    for kernel in (0, 1):
        specific, shared = model.specific_experts.kernels, model.shared_experts.kernels
        assert_experts_differ([*specific[kernel].numpy(), *shared[kernel].numpy()])
    assert_experts_differ([gate.get_weights()[0] for gate in model.gates.values()])


def test_number_of_weights(build):
    # Three tables 33 * 4; three experts of [19, 6] + 6 and [6, 4] + 4; per task a gate
    # [19, 3] + 3 and a tower [4, 4] + 4 and [4, 1] + 1.
    weights = build("stem").trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == (
        3 * 33 * 4 + 3 * (19 * 6 + 6 + 6 * 4 + 4) + 2 * (19 * 3 + 3 + 4 * 4 + 4 + 4 + 1)
    )


def test_penalty_is_on_the_embeddings_of_every_table(build, log):
    model = build("stem", l2_embedding=0.5)
    randomize(model)
    model(as_tensors(log.features))
    # One term for each of the three sides of each of the three tables.
    assert len(model.losses) == 9
    shared_alone = build("stem", l2_embedding=0.5)
    shared_alone.set_weights(model.get_weights())
    for table in tables(shared_alone).values():
        table.assign(tf.zeros_like(table))
    shared_alone(as_tensors(log.features))
    assert 0 < float(tf.add_n(shared_alone.losses)) < 0.7 * float(tf.add_n(model.losses))


def test_one_task_trains(build, log):
    model = build("stem", tasks=[Task(name="click")])
    assert list(model(as_tensors(log.features))) == ["click"]


def test_needs_experts(build):
    with pytest.raises(ValueError, match="num_groups=2, num_experts=0"):
        build("stem", num_specific_experts=0)
    with pytest.raises(ValueError, match="num_experts=0"):
        build("stem", num_shared_experts=0)


@pytest.mark.slow
def test_xla_gives_the_same_answers(build, log):
    model = build("stem", gate_units=(5,))
    compiled_call = tf.function(lambda batch: model(batch), jit_compile=True)
    for task, logits in compiled_call(as_tensors(log.features)).items():
        np.testing.assert_allclose(logits, model(as_tensors(log.features))[task], atol=1e-5)
