import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.behavior_chain import CHAIN, chain_batch, gradients_of, moved
from tests.models.conftest import (
    INPUTS,
    as_tensors,
    compiled,
    embedded_rows,
    first_batch,
    network,
    randomize,
    softmax,
)
from tfmtl.models import AITM, MultiTaskModel
from tfmtl.schema import Task

LN3 = math.log(3)
FUNNEL = (Task(name="order", order=2), Task(name="view"), Task(name="cart", order=1))


def test_golden(build, log):
    model = build("aitm", tasks=FUNNEL)
    randomize(model)
    logits = model(as_tensors(log.features))
    assert list(logits) == ["order", "view", "cart"]
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    state = None
    for task in ("view", "cart", "order"):
        own = network(row, model.bottoms[task].get_weights(), last_linear=False)
        if state is not None:
            (projection,) = model.projections[task].get_weights()
            key, query, value = model.transfers[task].get_weights()
            states = np.stack([state @ projection, own], axis=1)
            weights = softmax(((states @ key) * (states @ query)).sum(axis=-1) / np.sqrt(4))
            own = (weights[..., np.newaxis] * (states @ value)).sum(axis=1)
        state = own
        expected = network(state, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("tasks", itertools.permutations(FUNNEL))
def test_tasks_follow_their_order_and_not_the_list(tasks):
    assert AITM(tasks, INPUTS).sequence == ("view", "cart", "order")


@pytest.mark.parametrize("tasks", itertools.permutations(CHAIN))
def test_of_equal_order_parents_come_first(tasks):
    unordered = [task.model_copy(update={"order": 0}) for task in tasks]
    assert AITM(unordered, INPUTS).sequence == ("click", "like", "buy")


def test_else_tasks_follow_the_list():
    assert AITM([Task(name="b"), Task(name="c"), Task(name="a")], INPUTS).sequence == tuple("bca")


def test_information_flows_forward_only(build, log):
    model = build("aitm", tasks=FUNNEL)
    features = as_tensors(log.features)
    before = model(features)
    for weight in model.bottoms["cart"].trainable_weights:
        weight.assign_add(tf.ones_like(weight))
    after = model(features)
    np.testing.assert_array_equal(before["view"], after["view"])
    assert np.all(before["cart"].numpy() != after["cart"].numpy())
    assert np.all(before["order"].numpy() != after["order"].numpy())


def test_one_task_is_a_network_of_its_own(build, log):
    model = build("aitm", tasks=FUNNEL[:1])
    assert not model.transfers
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    own = network(row, model.bottoms["order"].get_weights(), last_linear=False)
    expected = network(own, model.towers["order"].get_weights())[:, 0]
    received = model(as_tensors(log.features))["order"]
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


def test_number_of_weights(build):
    # Table 33 * 4; per task a bottom [19, 6] + 6 and [6, 4] + 4 and a tower [4, 4] + 4 and
    # [4, 1] + 1; per step W, W_K, W_Q and W_V of [4, 4].
    weights = build("aitm", tasks=FUNNEL).trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == (
        33 * 4 + 3 * (19 * 6 + 6 + 6 * 4 + 4 + 4 * 4 + 4 + 4 + 1) + 2 * 4 * 4 * 4
    )


def test_children_are_learned_where_they_are_defined(build, log):
    model = build("aitm", tasks=CHAIN)
    features, labels, weights = chain_batch(log)
    logits = model(features)
    received = model.task_losses(logits, labels, weights)
    expected = MultiTaskModel.task_losses(model, logits, labels, weights)
    assert {k: float(v) for k, v in received.items()} == {k: float(v) for k, v in expected.items()}


def excess_of(model, logits, weights):
    """What the order loss adds to each task's loss."""
    labels = {name: tf.zeros_like(values) for name, values in logits.items()}
    received = model.task_losses(logits, labels, weights)
    plain = MultiTaskModel.task_losses(model, logits, labels, weights)
    return {name: float(received[name] - plain[name]) for name in logits}


def test_order_loss_by_hand():
    model = AITM(FUNNEL, INPUTS, order_weight=0.5)
    assert model.ordered_pairs == (("view", "cart"), ("cart", "order"))
    # view 1/2, 1/2, 1/4, 1/2; cart 3/4, 1/4, 3/4, 3/4; order 1/4, 3/4, 3/4, 3/4.
    logits = {
        "view": tf.constant([0.0, 0.0, -LN3, 0.0]),
        "cart": tf.constant([LN3, -LN3, LN3, LN3]),
        "order": tf.constant([-LN3, LN3, LN3, LN3]),
    }
    # The last two rows do not count for view and cart together; cart has weights 1, 2 and 1.
    weights = {
        "view": tf.constant([1.0, 1.0, 0.0, 1.0]),
        "cart": tf.constant([1.0, 2.0, 1.0, 0.0]),
        "order": tf.ones(4),
    }
    received = excess_of(model, logits, weights)
    # cart over view: 1 * 1/4 + 2 * 0 + 0, over weights of 4. order over cart: 1/2 on row 1.
    assert received == pytest.approx(
        {"view": 0, "cart": 0.5 * (1 / 4) / 4, "order": 0.5 * (1 / 2) / 4}, abs=1e-6
    )


def test_order_loss_compares_joint_probabilities():
    tasks = [
        Task(name="click"),
        Task(name="like", parent="click", order=1),
        Task(name="cart", parent="click", order=2),
        Task(name="buy", parent="cart", order=3),
    ]
    model = AITM(tasks, INPUTS, order_weight=1.0)
    # click to like and cart to buy hold by construction.
    assert model.ordered_pairs == (("like", "cart"),)
    # click 1/2, like 1/4, cart 3/4: joint 1/8 and 3/8.
    logits = {
        "click": tf.constant([0.0]),
        "like": tf.constant([-LN3]),
        "cart": tf.constant([LN3]),
        "buy": tf.constant([80.0]),
    }
    received = excess_of(model, logits, dict.fromkeys(logits, tf.ones(1)))
    assert received == pytest.approx({"click": 0, "like": 0, "cart": 1 / 4, "buy": 0}, abs=1e-6)


@pytest.mark.parametrize("masked", ["view", "cart"])
def test_order_loss_does_not_see_masked_rows(masked):
    model = AITM(FUNNEL, INPUTS, order_weight=1.0)
    logits = {
        "view": tf.constant([-1.0, -1.0]),
        "cart": tf.constant([1.0, 1.0]),
        "order": tf.constant([-9.0, -9.0]),
    }
    logits[masked] = tf.constant([float(logits[masked][0]), math.nan])
    weights = dict.fromkeys(logits, tf.ones(2)) | {masked: tf.constant([1.0, 0.0])}
    labels = {name: tf.zeros(2) for name in logits}
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = model.task_losses(logits, labels, weights)["cart"]
    gradients = tape.gradient(loss, logits, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    one = [1 / (1 + math.exp(1)), 1 / (1 + math.exp(-1))]
    rows = 1 if masked == "cart" else 2
    excess = (one[1] - one[0]) / rows
    assert float(loss) == pytest.approx(excess - math.log(1 - one[1]), rel=1e-5)
    slope = one[0] * one[1] / rows
    np.testing.assert_allclose(gradients["view"], [-slope, 0], rtol=1e-5)
    # The cross entropy of cart is about its own rows alone.
    own = one[1] / rows
    np.testing.assert_allclose(
        gradients["cart"], [slope + own, 0 if masked == "cart" else own], rtol=1e-5
    )


def test_rows_that_are_not_compared_add_nothing_to_chains_of_unequal_length():
    tasks = [
        Task(name="click"),
        Task(name="like", parent="click", order=1),
        Task(name="watch", order=2),
    ]
    model = AITM(tasks, INPUTS, order_weight=1.0)
    assert model.ordered_pairs == (("like", "watch"),)
    logits = {name: tf.zeros(2) for name in ("click", "like", "watch")}
    weights = {"click": tf.ones(2), "like": tf.constant([1.0, 0.0]), "watch": tf.ones(2)}
    # watch 1/2 over the joint 1/4 on the first row; on the second it is not known to be liked.
    assert excess_of(model, logits, weights)["watch"] == pytest.approx((1 / 4) / 2)


def test_order_loss_is_in_the_report_of_the_later_task(build, log):
    labels = {name: np.zeros(11, np.float32) for name in ("view", "cart", "order")}
    weights = {name: np.ones(11, np.float32) for name in labels}
    weights["cart"][[0, 2, 3, 9]] = 0
    model = build("aitm", tasks=FUNNEL, order_weight=2.0)
    randomize(model)
    batch = (as_tensors(log.features), labels, weights)
    expected = {
        f"{name}_loss": float(value)
        for name, value in model.task_losses(model(batch[0]), labels, weights).items()
    }
    plain = MultiTaskModel.task_losses(model, model(batch[0]), labels, weights)
    assert expected["cart_loss"] > float(plain["cart"]) + 1e-3
    # Batches of unequal numbers of defined rows make up the same mean.
    batches = tf.data.Dataset.from_tensor_slices(batch).batch(4)
    compiled(model, keras.optimizers.SGD(0.0))
    evaluated = model.evaluate(batches, return_dict=True, verbose=0)
    for key, value in expected.items():
        assert evaluated[key] == pytest.approx(value, rel=1e-4), key


def test_training_with_the_order_loss_puts_behaviours_in_order(build, log):
    model = build("aitm", tasks=FUNNEL, order_weight=20.0)
    features = as_tensors(log.features)
    # Labels that break the order on purpose.
    labels = {"view": np.zeros(11), "cart": np.ones(11), "order": np.zeros(11)}
    labels = {name: tf.constant(x, tf.float32) for name, x in labels.items()}
    weights = {name: tf.ones(11) for name in labels}
    compiled(model, keras.optimizers.Adam(0.01))
    batch = tf.data.Dataset.from_tensors((features, labels, weights)).repeat(150)
    model.fit(batch, verbose=0)
    received = model.probabilities(features)
    assert np.all(received["cart"] - received["view"] < 0.05)


def test_a_masked_task_moves_neither_its_step_nor_its_tower(build, dataset):
    model = build("aitm")
    features, labels, weights = first_batch(dataset(model))
    weights = {**weights, "click_x": tf.zeros([4])}
    _, gradients = gradients_of(model, (features, labels, weights))
    for part in (model.bottoms, model.projections, model.transfers, model.towers):
        assert not moved(model, part["click_x"], gradients)
    assert moved(model, model.bottoms["click"], gradients)


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        (FUNNEL, {"bottom_units": ()}, r"one width in bottom_units.*; received \[\]"),
        (FUNNEL, {"order_weight": -0.1}, "order_weight of at least 0; received -0.1"),
        (CHAIN, {"order_weight": 0.6}, r"0\.6 has no pair .*\['click', 'like', 'buy'\] each task"),
        (FUNNEL[:1], {"order_weight": 0.6}, "order_weight 0.6 has no pair of tasks to act on"),
        (
            [Task(name="a"), Task(name="b")],
            {"order_weight": 0.6},
            "or a task of the same order: set order_weight=0, or give the tasks an order",
        ),
        ([Task(name="buy", parent="click")], {}, "received task 'buy' with parent 'click'"),
    ],
)
def test_refuses_what_it_cannot_use(tasks, options, message):
    with pytest.raises(ValueError, match=message):
        AITM(tasks, INPUTS, **options)
