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
    network,
    randomize,
)
from tfmtl.models import ESCM2
from tfmtl.models.escm2 import imputed_key
from tfmtl.schema import Task

LN3 = math.log(3)
PAIR = (Task(name="click"), Task(name="buy", parent="click"))
IMPUTED = imputed_key("buy")

# Four rows: bought; clicked only; not clicked; clicked, purchase unknown, which is left out.
PAIR_LABELS = {
    "click": tf.constant([1.0, 1.0, 0.0, 1.0]),
    "buy": tf.constant([1.0, 0.0, math.nan, math.nan]),
}
PAIR_WEIGHTS = {"click": tf.ones(4), "buy": tf.constant([1.0, 1.0, 0.0, 0.0])}
# pCTR 3/4, 1/4, 1/4, 1/4; pCVR 1/4 everywhere.
PAIR_LOGITS = {"click": tf.constant([LN3, -LN3, -LN3, -LN3]), "buy": tf.fill([4], -LN3)}
BOUGHT, NOT_BOUGHT = math.log(4), math.log(4 / 3)


def buy_loss(model, **extra):
    logits = {**PAIR_LOGITS, **extra}
    return float(model.task_losses(logits, PAIR_LABELS, PAIR_WEIGHTS)["buy"])


def only_risk(**options):
    return ESCM2(PAIR, INPUTS, counterfactual_weight=1.0, global_weight=0.0, **options)


def test_inverse_propensity_weighting_by_hand():
    # Errors / propensities of the clicked rows, over the three rows of the entire space.
    expected = (BOUGHT / 0.75 + NOT_BOUGHT / 0.25) / 3
    assert buy_loss(only_risk()) == pytest.approx(expected)


def test_small_propensities_are_clipped():
    expected = (BOUGHT / 0.75 + NOT_BOUGHT / 0.5) / 3
    assert buy_loss(only_risk(min_propensity=0.5)) == pytest.approx(expected)


def test_doubly_robust_by_hand():
    imputed = tf.constant([1.0, 0.5, 0.25, 7.0])
    first, second = BOUGHT - 1.0, NOT_BOUGHT - 0.5
    risk = (1.0 + 0.5 + 0.25 + first / 0.75 + second / 0.25) / 3
    own = (first**2 / 0.75 + second**2 / 0.25) / 3
    received = buy_loss(only_risk(estimator="dr"), **{IMPUTED: imputed})
    assert received == pytest.approx(risk + own)


def test_weights_of_the_two_terms():
    # pCTCVR 3/16, 1/16, 1/16.
    joint = -(math.log(3 / 16) + 2 * math.log(15 / 16)) / 3
    risk = (BOUGHT / 0.75 + NOT_BOUGHT / 0.25) / 3
    model = ESCM2(PAIR, INPUTS, counterfactual_weight=0.25, global_weight=2.0)
    assert buy_loss(model) == pytest.approx(2 * joint + 0.25 * risk)
    rows = model.loss_rows(PAIR_LABELS, PAIR_WEIGHTS)["buy"]
    assert rows.numpy().tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("estimator", ["ipw", "dr"])
def test_gradients_of_the_risk(estimator):
    model = only_risk(estimator=estimator)
    inputs = {**PAIR_LOGITS, IMPUTED: tf.constant([1.0, 0.5, 0.25, math.nan])}
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = model.task_losses(inputs, PAIR_LABELS, PAIR_WEIGHTS)["buy"]
    gradients = tape.gradient(loss, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # Propensities are no part of what is learned: the risk must not raise pCTR to shrink.
    assert gradients["click"].numpy().tolist() == [0, 0, 0, 0]
    # (p - y) / propensity on clicked rows, whatever the estimator.
    expected = np.array([(0.25 - 1) / 0.75, 0.25 / 0.25, 0, 0]) / 3
    np.testing.assert_allclose(gradients["buy"], expected, rtol=1e-5)
    own = np.array([2 * (1 - BOUGHT) / 0.75, 2 * (0.5 - NOT_BOUGHT) / 0.25, 0, 0]) / 3
    np.testing.assert_allclose(
        gradients[IMPUTED], own if estimator == "dr" else [0, 0, 0, 0], rtol=1e-5
    )


def test_golden(build, log):
    model = build("escm2", tasks=CHAIN, estimator="dr")
    randomize(model)
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    logits = model(as_tensors(log.features))
    outputs = model.loss_inputs(as_tensors(log.features))
    assert list(logits) == ["buy", "click", "like"]
    assert set(outputs) == {*logits, imputed_key("buy"), imputed_key("like")}
    for task in model.task_names:
        expected = network(row, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(logits[task], outputs[task])
    for task in ("like", "buy"):
        score = network(row, model.imputations[task].get_weights())[:, 0]
        received = outputs[imputed_key(task)]
        np.testing.assert_allclose(received, np.logaddexp(score, 0), rtol=1e-4, atol=1e-4)


def losses_by_row(model, log, smallest):
    """L^k of every row per child at equal weights of 0.5, NaN where left out; click as ESMM."""
    steps = step_probabilities(model, log)
    outputs = model.loss_inputs(as_tensors(log.features))
    losses = joint_losses(steps)
    for task in ("like", "buy"):
        parents = PARENTS[task][:-1]
        happened = np.prod([LABELS[parent] == 1 for parent in parents], axis=0) > 0
        observed = happened & (WEIGHTS[task] > 0)
        inverse = observed / np.maximum(np.prod([steps[p] for p in parents], axis=0), smallest)
        errors = -np.where(LABELS[task] == 1, np.log(steps[task]), np.log1p(-steps[task]))
        errors = np.where(observed, errors, 0)
        risk = inverse * errors
        if model.imputations:
            imputed = outputs[imputed_key(task)].numpy().astype(np.float64)
            difference = errors - imputed
            risk = imputed + inverse * difference + inverse * difference**2
        losses[task] = 0.5 * losses[task] + 0.5 * risk
    return losses


@pytest.mark.parametrize("estimator", ["ipw", "dr"])
def test_fit_and_evaluate_report_the_losses_of_a_loop_over_rows(build, log, estimator):
    model = build("escm2", tasks=CHAIN, estimator=estimator, min_propensity=0.3)
    randomize(model)
    losses = losses_by_row(model, log, 0.3)
    expected = {f"{task}_loss": np.nanmean(losses[task]) for task in losses}
    parts = [slice(0, 4), slice(4, 8), slice(8, 11)]
    by_batch = [sum(np.nanmean(values[part]) for values in losses.values()) for part in parts]
    expected["loss"] = np.average(by_batch, weights=[4, 4, 3])
    compiled(model, keras.optimizers.SGD(0.0))
    fitted = model.fit(chain_batches(log), verbose=0).history
    evaluated = model.evaluate(chain_batches(log), return_dict=True, verbose=0)
    for key, value in expected.items():
        assert fitted[key][0] == pytest.approx(value, rel=1e-4), key
        assert evaluated[key] == pytest.approx(value, rel=1e-4), key


@pytest.mark.parametrize("estimator", ["ipw", "dr"])
@pytest.mark.parametrize("task", ["like", "buy"])
def test_rows_without_a_known_joint_label_are_not_seen(build, log, estimator, task):
    model = build("escm2", tasks=CHAIN, estimator=estimator)
    randomize(model)
    known = np.flatnonzero(~np.isnan(JOINT[task]))
    expected, by_known = gradients_of(model, chain_batch(log, known), task)
    received, by_all = gradients_of(model, chain_batch(log), task)
    assert received == pytest.approx(expected, rel=1e-5)
    for one, other in zip(by_known, by_all, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("estimator", ["ipw", "dr"])
def test_a_masked_child_has_no_loss_and_moves_nothing(build, log, estimator):
    model = build("escm2", tasks=CHAIN, estimator=estimator)
    masked = np.zeros(11, np.float32)
    batch = chain_batch(log, click=masked, like=masked, buy=masked)
    loss, gradients = gradients_of(model, batch)
    assert loss == 0
    assert not any(np.any(gradient) for gradient in gradients)


def test_gradients_reach_every_weight(build, log):
    model = build("escm2", tasks=CHAIN, estimator="dr")
    assert set(model.imputations) == {"like", "buy"}
    batch = chain_batch(log)
    for task in ("like", "buy"):
        _, gradients = gradients_of(model, batch, task)
        assert moved(model, model.imputations[task], gradients)
    _, gradients = gradients_of(model, batch)
    assert all(np.any(gradient) for gradient in gradients)


def test_weights_are_made_before_the_first_batch(build, log, tmp_path):
    model = build("escm2", tasks=CHAIN, estimator="dr")
    names = [weight.name for weight in model.weights]
    assert sum("imputation" in name for name in names) == 2 * 6
    model.compute_loss(chain_batch(log))
    assert [weight.name for weight in model.weights] == names
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    other = build("escm2", tasks=CHAIN, estimator="dr")
    tf.train.Checkpoint(model=other).read(path).assert_existing_objects_matched()
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("options", [{"estimator": "ipw"}, {"tasks": PAIR[:1], "estimator": "dr"}])
def test_imputations_are_made_for_children_under_dr_alone(build, options):
    assert not build("escm2", **{"tasks": CHAIN, **options}).imputations


@pytest.mark.parametrize("estimator", ["ipw", "dr"])
def test_settles_at_the_conditional_rates(build, log, estimator):
    """Under equal propensities no estimator moves the optimum, and no imputation does."""
    model = build("escm2", tasks=CHAIN, estimator=estimator)
    received = settle(model, *equal_rows(log))
    for task, rate in (("click", 1 / 2), ("like", 3 / 4), ("buy", 1 / 3)):
        np.testing.assert_allclose(received[task], rate, atol=0.01)


def test_confident_networks_have_finite_losses_and_gradients(build, log):
    _, labels, weights = chain_batch(log)
    model = build("escm2", tasks=CHAIN, min_propensity=0.01)
    for click, other in ((-80.0, 80.0), (80.0, -80.0), (-80.0, -80.0)):
        logits = {
            "click": tf.fill([11], click),
            **dict.fromkeys(("like", "buy"), tf.fill([11], other)),
        }
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = tf.add_n(list(model.task_losses(logits, labels, weights).values()))
        assert math.isfinite(float(loss))
        for gradient in tape.gradient(loss, logits).values():
            assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "ips"}, "expected estimator 'ipw' or 'dr'; received 'ips'"),
        ({"counterfactual_weight": -1}, "of at least 0; received -1 and 0.5"),
        ({"global_weight": -2}, "of at least 0; received 0.5 and -2"),
        ({"min_propensity": 0}, "min_propensity above 0 and at most 1; received 0"),
        ({"min_propensity": 1.5}, "min_propensity above 0 and at most 1; received 1.5"),
    ],
)
def test_refuses_what_it_cannot_use(options, message):
    with pytest.raises(ValueError, match=message):
        ESCM2(PAIR, INPUTS, **options)
