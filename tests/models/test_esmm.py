import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.behavior_chain import (
    CHAIN,
    JOINT,
    LABELS,
    PARENTS,
    WEIGHTS,
    chain_batch,
    chain_batches,
    equal_rows,
    gradients_of,
    joint_losses,
    moved,
    settle,
    step_probabilities,
)
from tests.models.conftest import (
    INPUTS,
    as_tensors,
    compiled,
    embedded_rows,
    first_batch,
    network,
    randomize,
)
from tfmtl.models import ESMM, MultiTaskModel
from tfmtl.schema import Task

LN3 = math.log(3)


@pytest.fixture(params=["esmm", "escm2"])
def entire_space(request):
    """Models whose children are trained over the entire space; ESCM2 as ESMM."""
    options = {"esmm": {}, "escm2": {"counterfactual_weight": 0.0, "global_weight": 1.0}}
    return request.param, options[request.param]


def test_golden(build, log):
    model = build("esmm", tasks=CHAIN)
    randomize(model)
    logits = model(as_tensors(log.features))
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    assert list(logits) == ["buy", "click", "like"]
    for task in model.task_names:
        expected = network(row, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-4, atol=1e-4)


def test_joint_losses_by_hand():
    model = ESMM(CHAIN, INPUTS)
    # Four rows: all happened; liked, not bought; clicked, like unknown; not clicked.
    labels = {
        "click": tf.constant([1.0, 1.0, 1.0, 0.0]),
        "like": tf.constant([1.0, 1.0, math.nan, math.nan]),
        "buy": tf.constant([1.0, 0.0, math.nan, math.nan]),
    }
    weights = {
        "click": tf.ones(4),
        "like": tf.constant([1.0, 1.0, 0.0, 0.0]),
        "buy": tf.constant([1.0, 1.0, 0.0, 0.0]),
    }
    # pCTR 3/4, P(like | click) 1/2, P(buy | like) 1/4: joint 3/4, 3/8, 3/32.
    logits = {"click": tf.fill([4], LN3), "like": tf.zeros(4), "buy": tf.fill([4], -LN3)}
    losses = model.task_losses(logits, labels, weights)
    log = math.log
    assert float(losses["click"]) == pytest.approx(-(3 * log(3 / 4) + log(1 / 4)) / 4)
    assert float(losses["like"]) == pytest.approx(-(2 * log(3 / 8) + log(5 / 8)) / 3)
    assert float(losses["buy"]) == pytest.approx(-(log(3 / 32) + 2 * log(29 / 32)) / 3)
    rows = model.loss_rows(labels, weights)
    assert {name: values.numpy().tolist() for name, values in rows.items()} == {
        "click": [1, 1, 1, 1],
        "like": [1, 1, 0, 1],
        "buy": [1, 1, 0, 1],
    }


def test_losses_equal_a_loop_over_rows(entire_space, build, log):
    name, options = entire_space
    model = build(name, tasks=CHAIN, **options)
    randomize(model)
    features, labels, weights = chain_batch(log)
    received = model.task_losses(model(features), labels, weights)
    for task, losses in joint_losses(step_probabilities(model, log)).items():
        assert float(received[task]) == pytest.approx(np.nanmean(losses), rel=1e-4), task


def test_fit_and_evaluate_report_joint_losses_over_the_rows_of_their_means(
    entire_space, build, log
):
    name, options = entire_space
    model = build(name, tasks=CHAIN, **options)
    randomize(model)
    losses = joint_losses(step_probabilities(model, log))
    defined = {task: ~np.isnan(JOINT[task]) for task in JOINT}
    # The batches differ in their joint rows and in those of the child.
    parts = [slice(0, 4), slice(4, 8), slice(8, 11)]
    assert [int(defined["buy"][part].sum()) for part in parts] == [4, 1, 3]
    assert [int(WEIGHTS["buy"][part].sum()) for part in parts] == [2, 0, 1]
    expected = {f"{task}_loss": np.nanmean(losses[task]) for task in losses}
    by_batch = [sum(np.nanmean(values[part]) for values in losses.values()) for part in parts]
    expected["loss"] = np.average(by_batch, weights=[4, 4, 3])

    compiled(model, keras.optimizers.SGD(0.0))
    fitted = model.fit(chain_batches(log), verbose=0).history
    evaluated = model.evaluate(chain_batches(log), return_dict=True, verbose=0)
    for key, value in expected.items():
        assert fitted[key][0] == pytest.approx(value, rel=1e-4), key
        assert evaluated[key] == pytest.approx(value, rel=1e-4), key


@pytest.mark.parametrize("task", ["like", "buy"])
def test_a_child_learns_where_its_parent_did_not_happen(build, log, task):
    """The entire space: rows that were not clicked move the networks of the whole chain."""
    model = build("esmm", tasks=CHAIN)
    not_clicked = np.flatnonzero(LABELS["click"] == 0)
    loss, gradients = gradients_of(model, chain_batch(log, not_clicked), task)
    assert loss > 0
    for step in CHAIN:
        expected = step.name in PARENTS[task]
        assert moved(model, model.towers[step.name], gradients) == expected


@pytest.mark.parametrize(
    ("task", "left_out"), [("click", [4]), ("like", [4, 5]), ("buy", [4, 5, 6])]
)
@pytest.mark.parametrize("junk", [0.0, 1.0, math.nan])
def test_rows_without_a_known_joint_label_are_not_seen(build, log, task, left_out, junk):
    """Neither loss nor gradient, whatever labels of weight 0 and logits hold."""
    model = build("esmm", tasks=CHAIN)
    logits = {
        name: tf.constant(np.random.default_rng(number).normal(size=11), tf.float32)
        for number, name in enumerate(LABELS)
    }
    labels = {name: np.where(WEIGHTS[name] > 0, x, junk) for name, x in LABELS.items()}
    outcomes = []
    for rows, spoilt in ((np.delete(np.arange(11), left_out), False), (np.arange(11), True)):
        inputs = {name: x.numpy().copy() for name, x in logits.items()}
        if spoilt:
            for name in PARENTS[task]:
                inputs[name][left_out] = math.nan
        tensors = {name: tf.constant(x[rows]) for name, x in inputs.items()}
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            loss = model.task_losses(
                tensors,
                {name: tf.constant(x[rows]) for name, x in labels.items()},
                {name: tf.constant(x[rows]) for name, x in WEIGHTS.items()},
            )[task]
        gradients = tape.gradient(loss, {name: tensors[name] for name in PARENTS[task]})
        outcomes.append((float(loss), gradients))
    (expected, by_row), (received, by_all) = outcomes
    assert received == pytest.approx(expected, rel=1e-6)
    for name in PARENTS[task]:
        assert np.all(by_all[name].numpy()[left_out] == 0)
        np.testing.assert_allclose(np.delete(by_all[name], left_out), by_row[name], rtol=1e-5)


def test_masking_the_first_of_a_chain_masks_the_chain(build, log):
    model = build("esmm", tasks=CHAIN)
    batch = chain_batch(log, click=np.zeros(11, np.float32))
    loss, gradients = gradients_of(model, batch)
    assert loss == 0
    assert not any(np.any(gradient) for gradient in gradients)
    rows = model.loss_rows(*batch[1:])
    assert all(float(tf.reduce_sum(values)) == 0 for values in rows.values())


def test_masking_a_child_leaves_what_is_decided_without_it(build, log):
    model = build("esmm", tasks=CHAIN)
    _, labels, weights = chain_batch(log, like=np.zeros(11, np.float32))
    rows = model.loss_rows(labels, weights)
    for task in ("like", "buy"):
        np.testing.assert_array_equal(rows[task], LABELS["click"] == 0)


def test_row_weights_are_those_of_the_label_that_decides(build, log):
    model = build("esmm", tasks=CHAIN)
    weights = {name: 2.0**power * WEIGHTS[name] for power, name in enumerate(PARENTS)}
    features, labels, weights = chain_batch(log, **weights)
    rows = np.array([1, 2, 4, 4, 0, 0, 0, 1, 2, 4, 1])
    np.testing.assert_array_equal(model.loss_rows(labels, weights)["buy"], rows)
    received = model.task_losses(model(features), labels, weights)["buy"]
    losses = np.nan_to_num(joint_losses(step_probabilities(model, log))["buy"])
    assert float(received) == pytest.approx(np.average(losses, weights=rows), rel=1e-4)


def test_losses_do_not_depend_on_the_order_of_the_list(build, log):
    features, labels, weights = chain_batch(log)
    reference = build("esmm", tasks=CHAIN)
    randomize(reference)
    expected = reference.task_losses(reference(features), labels, weights)
    for tasks in itertools.permutations(CHAIN):
        model = build("esmm", tasks=tasks)
        model.embedding.set_weights(reference.embedding.get_weights())
        for task in PARENTS:
            model.towers[task].set_weights(reference.towers[task].get_weights())
        received = model.task_losses(model(features), labels, weights)
        for task in PARENTS:
            assert float(received[task]) == pytest.approx(float(expected[task]), rel=1e-6)


def test_without_parents_it_has_the_loss_of_every_model(entire_space, build, dataset):
    name, options = entire_space
    model = build(name, **options)
    features, labels, weights = first_batch(dataset(model))
    logits = model(features)
    received = model.task_losses(logits, labels, weights)
    expected = MultiTaskModel.task_losses(model, logits, labels, weights)
    for task in model.task_names:
        assert float(received[task]) == float(expected[task])
        np.testing.assert_array_equal(model.loss_rows(labels, weights)[task], weights[task])


def test_settles_at_the_conditional_rates(build, log):
    batch = equal_rows(log)
    received = settle(build("esmm", tasks=CHAIN), *batch)
    for task, rate in (("click", 1 / 2), ("like", 3 / 4), ("buy", 1 / 3)):
        np.testing.assert_allclose(received[task], rate, atol=0.01)


def test_confident_networks_have_finite_losses_and_gradients(build, log):
    _, labels, weights = chain_batch(log)
    model = build("esmm", tasks=CHAIN)
    for signs in itertools.product((-80.0, 80.0), repeat=3):
        logits = {name: tf.fill([11], sign) for name, sign in zip(PARENTS, signs, strict=True)}
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = tf.add_n(list(model.task_losses(logits, labels, weights).values()))
        assert 0 < float(loss) < 3 * 3 * 80
        for gradient in tape.gradient(loss, logits).values():
            assert np.all(np.isfinite(gradient))


def test_number_of_weights(build):
    # Table 33 * 4; per task [19, 6] + 6, [6, 4] + 4 and [4, 1] + 1.
    weights = build("esmm", tasks=CHAIN).trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == (
        33 * 4 + 3 * (19 * 6 + 6 + 6 * 4 + 4 + 4 + 1)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), [("esmm", {}), ("escm2", {"estimator": "dr"}), ("aitm", {})]
)
def test_compiles_with_xla(build, log, name, options):
    histories = []
    for jit_compile in (False, True):
        model = build(name, tasks=CHAIN, **options)
        randomize(model)
        compiled(model, keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        batches = tf.data.Dataset.from_tensors(chain_batch(log))
        histories.append(model.fit(batches, epochs=2, verbose=0).history)
    for key, values in histories[0].items():
        assert histories[1][key] == pytest.approx(values, rel=1e-4), key


def test_refuses_a_parent_it_lacks():
    with pytest.raises(ValueError, match="received task 'buy' with parent 'click'"):
        ESMM([Task(name="buy", parent="click")], INPUTS)
