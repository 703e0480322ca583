import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.conftest import (
    as_tensors,
    compiled,
    embedded_rows,
    first_batch,
    network,
    randomize,
    softmax,
)
from tests.models.test_multi_task_model import loop, static
from tfmtl.models import default_hyperparameters
from tfmtl.schema import Task
from tfmtl.testing import assert_experts_differ, assert_gradients_reach_every_weight

TWO = {"click": "a", "click_x": "b"}
THREE = [Task(name=name) for name in ("click_x", "click", "view")]
PAIRED = {"view": "watching", "click": "interaction", "click_x": "interaction"}


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def expert_outputs(level, rows, normalization):
    """Experts of a level at inference, one after the other: per group `[B, E, H]`."""
    weights = {weight.name.split("/")[-1][:-2]: weight.numpy() for weight in level.experts.weights}
    down, up = level.feature_gate.get_weights()
    groups, size = [], level.num_experts
    for group, row in enumerate(rows):
        outputs = []
        for number in range(group * size, (group + 1) * size):
            view = row * 2 * sigmoid(row @ down[number] @ up[number])
            hidden = view @ weights["kernel_0"][number] + weights["bias_0"][number]
            hidden = hidden * sigmoid(hidden) @ weights["kernel_1"][number]
            columns = slice(4 * number, 4 * number + 4)
            if normalization == "batch":
                mean, variance = (
                    weights["moving_mean"][columns],
                    weights["moving_variance"][columns],
                )
            else:
                mean, variance = hidden.mean(1, keepdims=True), hidden.var(1, keepdims=True)
            hidden = (hidden - mean) / np.sqrt(variance + 1e-5)
            hidden = hidden * weights["gamma"][columns] + weights["beta"][columns]
            outputs.append(hidden * sigmoid(hidden))
        groups.append(np.stack(outputs, axis=1))
    return groups


def output(level, number, row, visible, own):
    gate = softmax(network(row, level.gates[number].get_weights()))
    passed = softmax(network(row, level.self_gates[number].get_weights()))
    return np.einsum("bn,bnh->bh", gate, np.concatenate(visible, axis=1)) + np.einsum(
        "be,beh->bh", passed, own
    )


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_golden(build, log, normalization):
    model = build("home", normalization=normalization, categories=PAIRED, tasks=THREE)
    randomize(model)
    rng = np.random.default_rng(1)
    for weight in model.non_trainable_weights:
        weight.assign(rng.uniform(0.5, 2, weight.shape))
    logits = model(as_tensors(log.features))

    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    every, interaction, watching = expert_outputs(model.meta_level, [row] * 3, normalization)
    z = [
        output(model.meta_level, 0, row, [interaction, watching, every], every),
        output(model.meta_level, 1, row, [every, interaction], interaction),
        output(model.meta_level, 2, row, [every, watching], watching),
    ]
    of_task = {"click_x": 1, "click": 1, "view": 2}
    rows = [*z, *(z[of_task[name]] for name in model.task_names)]
    groups = expert_outputs(model.task_level, rows, normalization)
    for number, name in enumerate(model.task_names):
        category, own = groups[of_task[name]], groups[3 + number]
        hidden = output(model.task_level, number, z[of_task[name]], [groups[0], category, own], own)
        expected = network(hidden, model.towers[name].get_weights())[:, 0]
        np.testing.assert_allclose(logits[name], expected, rtol=1e-3, atol=1e-3)


def test_a_task_feels_the_groups_that_it_sees(build, log):
    model = build("home", categories=PAIRED, tasks=THREE)
    randomize(model)
    kernels = [model.meta_level.experts.kernels[0], model.task_level.experts.kernels[0]]
    # Task level: global 0, interaction 1, watching 2, click_x 3, click 4, view 5.
    visible = {"click_x": [0, 1, 3], "click": [0, 1, 4], "view": [0, 2, 5]}
    for task, seen in visible.items():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(as_tensors(log.features))[task])
        meta, own = tape.gradient(loss, kernels)
        experts = [2 * group + expert for group in seen for expert in (0, 1)]
        assert np.flatnonzero(np.abs(own).max(axis=(1, 2))).tolist() == experts
        # z_global hands on what all categories say.
        assert np.flatnonzero(np.abs(meta).max(axis=(1, 2))).tolist() == list(range(6))


def test_tasks_are_in_one_category_unless_told(build):
    model = build("home")
    assert model.categories == ("all",)
    assert model.meta_level.visible == [[1, 0], [0, 1]]
    assert model.task_level.visible == [[0, 1, 2], [0, 1, 3]]
    assert default_hyperparameters("home")["categories"] is None


def test_categories_come_in_the_order_of_the_tasks(build):
    model = build("home", categories=PAIRED, tasks=THREE)
    assert model.categories == ("interaction", "watching")
    assert model.meta_level.visible == [[1, 2, 0], [0, 1], [0, 2]]
    assert model.task_level.visible == [[0, 1, 3], [0, 1, 4], [0, 2, 5]]


@pytest.mark.parametrize("experts", [1, 3])
def test_gradients_reach_every_weight(build, log, experts):
    model = build(
        "home",
        categories=TWO,
        num_experts=experts,
        gate_units=(5,),
        normalization="batch",
        weighting="static",
    )
    assert_gradients_reach_every_weight(model, as_tensors(log.features))


def test_batch_normalization_reports_what_it_trains_on_and_what_it_answers(build, dataset):
    """Fit reports losses under the batches' statistics, evaluate those under their averages."""
    model = build("home", normalization="batch", categories=TWO, l2=0.01)
    randomize(model)
    batches = dataset(model)
    training = []
    for features, labels, weights in batches:
        logits = model(features, training=True)
        losses = model.task_losses(logits, labels, weights)
        training.append((float(static(losses)), len(labels["click"])))
    sums = sum(loss * rows for loss, rows in training)

    compiled(model, keras.optimizers.SGD(0.0))
    fitted = {key: values[0] for key, values in model.fit(batches, verbose=0).history.items()}
    assert fitted["loss"] == pytest.approx(sums / 11, rel=1e-4)
    evaluated = model.evaluate(batches, return_dict=True, verbose=0)
    assert evaluated == pytest.approx(loop(model, batches, static, 0.01), rel=1e-4)
    assert abs(evaluated["loss"] - fitted["loss"]) > 1e-3
    assert fitted["regularization_loss"] == pytest.approx(evaluated["regularization_loss"])


def test_layer_normalization_reports_the_same_in_fit_and_evaluate(build, dataset):
    model = build("home", categories=TWO, l2=0.01)
    randomize(model)
    batches = dataset(model)
    compiled(model, keras.optimizers.SGD(0.0))
    fitted = {key: values[0] for key, values in model.fit(batches, verbose=0).history.items()}
    expected = loop(model, batches, static, 0.01)
    assert fitted == pytest.approx(expected, rel=1e-4)
    assert model.evaluate(batches, return_dict=True, verbose=0) == pytest.approx(expected, rel=1e-4)


def test_averages_of_batch_normalization_approach_the_statistics(build, log):
    model = build("home", normalization="batch", categories=TWO)
    features = as_tensors(log.features)
    batch = tf.data.Dataset.from_tensors((features, log.labels, log.weights))
    trained = model(features, training=True)
    apart = np.abs(trained["click"] - model(features)["click"]).max()
    compiled(model, keras.optimizers.SGD(0.0))
    model.fit(batch.repeat(200), verbose=0)
    together = np.abs(trained["click"] - model(features)["click"]).max()
    assert together < 1e-3 < apart


def test_answers_under_batch_normalization_do_not_depend_on_the_batch(build, log):
    model = build("home", normalization="batch", categories=TWO)
    randomize(model)
    features = as_tensors(log.features)
    together = model(features)["click"]
    alone = [
        model({key: part[row : row + 1] for key, part in features.items()})["click"]
        for row in range(11)
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-4)


def test_batch_normalization_trains_and_a_checkpoint_holds_its_averages(build, dataset, tmp_path):
    model = build("home", normalization="batch", categories=TWO)
    compiled(model, keras.optimizers.Adam(0.03))
    batches = dataset(model)
    losses = model.fit(batches, epochs=15, verbose=0).history["click_loss"]
    assert losses[-1] < 0.8 * losses[0]
    averages = [weight for weight in model.non_trainable_weights if "moving" in weight.name]
    assert len(averages) == 4
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    other = build("home", normalization="batch", categories=TWO)
    tf.train.Checkpoint(model=other).read(path).assert_existing_objects_matched()
    features, _, _ = first_batch(batches)
    for task, logits in model(features).items():
        np.testing.assert_array_equal(logits, other(features)[task])


def test_a_masked_task_moves_nothing_under_batch_normalization(build, dataset):
    model = build("home", normalization="batch", categories=TWO)
    features, labels, weights = first_batch(dataset(model))
    batch = (
        features,
        {**labels, "click_x": tf.fill([4], float("nan"))},
        {**weights, "click_x": tf.zeros([4])},
    )
    level = model.task_level
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    kernel, tower, gate, self_gate = tape.gradient(
        loss,
        [
            level.experts.kernels[0],
            model.towers["click_x"].trainable_weights,
            level.gates[1].trainable_weights,
            level.self_gates[1].trainable_weights,
        ],
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    # Groups of two experts: global, a, b, click, click_x.
    assert np.all(np.isfinite(kernel))
    assert np.flatnonzero(np.abs(kernel).max(axis=(1, 2))).tolist() == [0, 1, 2, 3, 6, 7]
    assert not any(np.any(gradient) for gradient in (*tower, *gate, *self_gate))


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_half_precision_stays_close(build, log, normalization, half_precision):
    half = build("home", normalization=normalization, categories=TWO)
    half.build_weights()
    features = as_tensors(log.features)
    received = {training: half(features, training=training) for training in (True, False)}
    weights = half.get_weights()
    batch = tf.data.Dataset.from_tensors((features, log.labels, log.weights))
    compiled(half, keras.optimizers.SGD(0.1))
    assert np.isfinite(half.fit(batch, verbose=0).history["total_loss"][0])

    keras.mixed_precision.set_global_policy("float32")
    single = build("home", normalization=normalization, categories=TWO)
    single.build_weights()
    single.set_weights(weights)
    for training in (False, True):
        expected = single(features, training=training)
        for task, logits in received[training].items():
            np.testing.assert_allclose(logits, expected[task], atol=0.02)


@pytest.mark.parametrize("kernel", [0, 1])
def test_experts_differ_at_the_start(build, kernel):
    model = build("home", categories=TWO, num_experts=3)
    for level in (model.meta_level, model.task_level):
        assert_experts_differ(level.experts.kernels[kernel].numpy())
        assert_experts_differ(level.feature_gate.get_weights()[kernel])


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_number_of_weights(build, normalization):
    # Table 33 * 4. An expert on D columns: feature gate 2 * D * 2, [D, 6] + 6, [6, 4], scale and
    # shift 2 * 4. Meta level on 19 columns: groups global, a, b of two experts, three outputs with
    # gates over 6, 4, 4 and self-gates over 2. Task level on 4: groups global, a, b and two tasks,
    # two outputs with gates over 6 and self-gates over 2. Towers [4, 4] + 4 and [4, 1] + 1.
    def experts(number, width):
        return number * (4 * width + width * 6 + 6 + 6 * 4 + 8)

    model = build("home", categories=TWO, normalization=normalization)
    assert sum(weight.shape.num_elements() for weight in model.trainable_weights) == (
        33 * 4
        + experts(6, 19)
        + 20 * (6 + 4 + 4 + 3 * 2)
        + experts(10, 4)
        + 5 * 2 * (6 + 2)
        + 2 * (4 * 4 + 4 + 4 + 1)
    )


def test_one_task_trains(build, log):
    model = build("home", tasks=[Task(name="click")])
    assert list(model(as_tensors(log.features))) == ["click"]


@pytest.mark.parametrize("categories", [{"click": "a"}, {**TWO, "buy": "b"}, {}])
def test_refuses_categories_of_other_tasks(build, categories):
    message = r"a category for each of the tasks \['click', 'click_x'\]; received \{.*leave"
    with pytest.raises(ValueError, match=message):
        build("home", categories=categories)


def test_refuses_to_leave_experts_unnormalised(build):
    with pytest.raises(ValueError, match="normalization 'batch' or 'layer'; received None"):
        build("home", normalization=None)


def test_normalises_over_the_batch_unless_told():
    assert default_hyperparameters("home")["normalization"] == "batch"


@pytest.mark.slow
@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_compiles_with_xla(build, dataset, normalization):
    batches = dataset(build("home")).take(2).unbatch().batch(4, drop_remainder=True)
    histories, start = [], None
    for jit_compile in (False, True):
        model = build("home", normalization=normalization, categories=TWO, l2=0.01)
        start = model.get_weights() if start is None else start
        model.set_weights(start)
        compiled(model, keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        histories.append(model.fit(batches, epochs=2, verbose=0).history)
    for key, values in histories[0].items():
        assert histories[1][key] == pytest.approx(values, rel=1e-3), key
