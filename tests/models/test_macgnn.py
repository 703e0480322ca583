import numpy as np
import pytest
import tensorflow as tf

from tests.models.conftest import (
    INPUTS,
    as_tensors,
    compiled,
    embedded_rows,
    macro_graph_of,
    randomize,
    softmax,
)
from tfmtl.models import MacGNN
from tfmtl.schema import Task
from tfmtl.testing import assert_experts_differ, assert_gradients_reach_every_weight

SIZES = {"dim": 4, "fusion_units": 6, "tower_units": 4}


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def randomize_statistics(model):
    """Gives every `Dice` a mean and a variance of its own."""
    rng = np.random.default_rng(5)
    for weight in model.non_trainable_weights:
        if "moving_mean" in weight.name:
            weight.assign(rng.normal(size=weight.shape))
        elif "moving_variance" in weight.name:
            weight.assign(rng.uniform(0.5, 2, size=weight.shape))


def weights_of(model):
    """Weights by their path in the model, double precision."""
    return {
        weight.name.partition("/")[2].removesuffix(":0"): weight.numpy().astype(np.float64)
        for weight in model.weights
    }


def part(weights, path):
    """Weights below a path."""
    start = f"{path}/"
    return {key.removeprefix(start): w for key, w in weights.items() if key.startswith(start)}


def dice(weights, values):
    deviation = np.sqrt(weights["normalization/moving_variance"] + 1e-5)
    bend = sigmoid((values - weights["normalization/moving_mean"]) / deviation)
    return bend * values + (1 - bend) * weights["alpha"] * values


def fused(weights, values):
    """Dice(W x + b)."""
    linear = values @ weights["dense/kernel"] + weights["dense/bias"]
    return dice(part(weights, "activation"), linear)


def tables_of_rows(graph, features):
    """Logarithms of N_U1, N_U2, P_U, N_I1, N_I2, P_I for a batch, by the documented layout."""
    versions = features.get("macro_version", np.zeros_like(features["user_id"]))
    user = graph.user_rows[versions, features["user_id"]].astype(np.float64)
    item = graph.item_rows[versions, features["item_id"]].astype(np.float64)
    of_items, of_users = graph.num_item_nodes + 1, graph.num_user_nodes + 1
    hops = of_items + of_users
    return {
        "U1": user[:, :of_items],
        "U2": user[:, of_items:hops],
        "PU": user[:, hops:].reshape(len(user), graph.num_tasks, of_items),
        "I1": item[:, :of_users],
        "I2": item[:, of_users:hops],
        "PI": item[:, hops:].reshape(len(item), graph.num_tasks, of_users),
        "item_group": graph.item_groups[versions, features["item_id"]],
        "recent_items": graph.recent_items[versions, features["user_id"]],
        "recent_item_behaviors": graph.recent_item_behaviors[versions, features["user_id"]],
        "recent_users": graph.recent_users[versions, features["item_id"]],
        "recent_user_behaviors": graph.recent_user_behaviors[versions, features["item_id"]],
    }


def macro_weights(log_counts, tau, mask_padding=True):
    """(N + 1)^(1/tau), as shares."""
    powers = np.exp(log_counts) ** (1 / tau)
    if mask_padding:
        powers[:, 0] = 0
    return powers / powers.sum(axis=1, keepdims=True)


def aggregate(weights, neighbors, target, alpha, present):
    """sum_g alpha_g (G beta_g) (x_g W_V), row by row over the G neighbours that there are."""
    rows = []
    for vectors, one, shares, mask in zip(neighbors, target, alpha, present, strict=True):
        vectors, shares = vectors[mask], shares[mask]
        if "query" in weights and len(vectors):
            key = one @ weights["key"]
            scores = vectors @ weights["query"] @ key / np.sqrt(len(key))
            shares = shares * len(vectors) * softmax(scores)
        rows.append(shares @ (vectors @ weights["value"]))
    return np.stack(rows)


def expert(weights, user, item, user_nodes, item_nodes, alpha, mask_padding=True):
    """m = [ e_u || u1 || u2 || e_i || i1 || i2 ]."""

    def hop(side, nodes, target, shares):
        neighbors = np.broadcast_to(nodes, [len(target), *nodes.shape])
        present = np.ones(neighbors.shape[:2], bool)
        present[:, 0] = not mask_padding
        return aggregate(part(weights, f"{side}_aggregator"), neighbors, target, shares, present)

    return np.concatenate(
        [
            user,
            hop("item", item_nodes, item, alpha["U1"]),
            hop("user", user_nodes, user, alpha["U2"]),
            item,
            hop("user", user_nodes, user, alpha["I1"]),
            hop("item", item_nodes, item, alpha["I2"]),
        ],
        axis=1,
    )


def task_columns(table, number, dim=4):
    return table[:, dim * number : dim * (number + 1)]


def forward(model, graph, features, tau, mask_padding=True):
    """Logits by task."""
    weights = weights_of(model)
    bottom = part(weights, "macro_graph_bottom")
    rows = tables_of_rows(graph, features)
    alpha = {key: macro_weights(rows[key], tau, mask_padding) for key in ("U1", "U2", "I1", "I2")}
    logits = {}
    for number, task in enumerate(model.task_names):
        users, items, user_nodes, item_nodes = (
            task_columns(bottom[name], number)
            for name in ("user", "item", "user_nodes", "item_nodes")
        )
        own = part(bottom, f"{task}_expert")
        user, item = users[features["user_id"]], items[features["item_id"]]
        state = [expert(own, user, item, user_nodes, item_nodes, alpha, mask_padding)]
        for side, table, target in (("item", items, item), ("user", users, user)):
            recent = rows[f"recent_{side}s"]
            state.append(
                aggregate(
                    part(own, f"{side}_aggregator"),
                    table[recent],
                    target,
                    np.ones(recent.shape),
                    recent > 0,
                )
            )
        if model.embedding.inputs:
            state.append(embedded_rows(weights["table"], features))
        state = np.concatenate(state, axis=1)
        for layer in (0, 1):
            state = fused(part(weights, f"{task}_dense_{layer}"), state)
        logit = part(weights, f"{task}_tower/logit")
        logits[task] = (state @ logit["kernel"] + logit["bias"])[:, 0]
    return logits


@pytest.mark.parametrize(
    "options",
    [{}, {"attention": "released", "mask_padding": False}, {"inputs": []}],
    ids=["neighbor", "released", "ids_alone"],
)
def test_golden(options, build, log, macro_graph):
    model = build("macgnn", tau=0.7, **options)
    randomize(model)
    randomize_statistics(model)
    # Versions of training rows, both and none.
    features = {**log.features, "macro_version": np.arange(len(log), dtype=np.int32) % 3}
    received = model(as_tensors(features))
    expected = forward(model, macro_graph, features, 0.7, options.get("mask_padding", True))
    for task in model.task_names:
        assert np.ptp(expected[task]) > 0.5
        np.testing.assert_allclose(received[task], expected[task], rtol=1e-3, atol=1e-3)


def test_released_code(bundle, log):
    """Of one task and ids alone, with the softmax over an axis of one element."""
    tasks = [Task(name="click")]
    graph = macro_graph_of(bundle.edge_sets["item_user"], tasks)
    model = MacGNN(
        tasks, [], macro_graph=graph, tau=1.9, attention="released", mask_padding=False, **SIZES
    )
    model.build_weights()
    randomize(model)
    randomize_statistics(model)
    weights = weights_of(model)
    bottom, rows = part(weights, "macro_graph_bottom"), tables_of_rows(graph, log.features)
    rng = np.random.default_rng(8)
    attention = {side: rng.normal(size=[2, 4, 8]) for side in ("user", "item")}

    def neighbor_aggregation(side, neighbors, target, shares):
        query, key = attention[side]
        value = bottom[f"click_expert/{side}_aggregator/value"]
        scores = np.einsum("bnd,bd->bn", neighbors @ query, target @ key)[..., np.newaxis]
        attended = softmax(scores / np.sqrt(8)) * (neighbors @ value)
        return (shares[..., np.newaxis] * attended).sum(axis=1)

    def macro(side, counts, target):
        nodes = np.broadcast_to(bottom[f"{side}_nodes"], [len(target), *shape[side]])
        return neighbor_aggregation(side, nodes, target, softmax(rows[counts] / 1.9))

    def recent(side, target):
        ids = rows[f"recent_{side}s"]
        return neighbor_aggregation(side, bottom[side][ids], target, (ids > 0).astype(float))

    shape = {side: bottom[f"{side}_nodes"].shape for side in ("user", "item")}
    user, item = bottom["user"][log.features["user_id"]], bottom["item"][log.features["item_id"]]
    u1, u2 = macro("item", "U1", item), macro("user", "U2", user)
    i1, i2 = macro("user", "I1", user), macro("item", "I2", item)
    # The latest neighbours stand behind the macro neighbours of their side; here they come last.
    state = np.concatenate(
        [user, u1, u2, recent("item", item), item, i1, i2, recent("user", user)], axis=1
    )
    kernel = weights["click_dense_0/dense/kernel"]
    order = [*range(20), *range(40, 48), *range(20, 40), *range(48, 56)]
    hidden = state @ kernel[order] + weights["click_dense_0/dense/bias"]
    hidden = dice(part(weights, "click_dense_0/activation"), hidden)
    hidden = fused(part(weights, "click_dense_1"), hidden)
    expected = hidden @ weights["click_tower/logit/kernel"] + weights["click_tower/logit/bias"]
    received = model(as_tensors(log.features))["click"]
    np.testing.assert_allclose(received, expected[:, 0], rtol=1e-3, atol=1e-3)


def test_released_attention_has_no_query_and_no_key(build):
    names = [weight.name for weight in build("macgnn", attention="released").trainable_weights]
    assert not [name for name in names if "query" in name or "key" in name]


def test_tasks_share_nothing_but_features(build, log):
    model = build("macgnn")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(as_tensors(log.features))["click"] ** 2)
    gradients = tape.gradient(loss, model.trainable_weights)
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        if "click_x" in weight.name:
            assert gradient is None, weight.name
        elif "macro_graph_bottom" in weight.name and "expert" not in weight.name:
            # Columns of the other task.
            other = tf.convert_to_tensor(gradient)[:, 4:]
            np.testing.assert_array_equal(other, tf.zeros_like(other))
        else:
            assert np.any(tf.convert_to_tensor(gradient)), weight.name


@pytest.mark.parametrize("options", [{"inputs": []}, {"attention": "released"}, {"dropout": 0.1}])
def test_gradients_reach_every_weight(options, build, log):
    assert_gradients_reach_every_weight(build("macgnn", **options), as_tensors(log.features))


def test_networks_of_tasks_differ_at_the_start(build):
    weights = weights_of(build("macgnn"))
    for name in (
        "expert/user_aggregator/value",
        "expert/item_aggregator/key",
        "dense_0/dense/kernel",
    ):
        own = [w for key, w in weights.items() if key.endswith(name)]
        assert len(own) == 2
        assert_experts_differ(own)


def test_ids_are_all_that_it_needs(build, dataset):
    model = build("macgnn", inputs=[])
    compiled(model, "adam")
    losses = model.fit(dataset(model), epochs=5, verbose=0).history["click_loss"]
    assert losses[-1] < losses[0]


def test_number_of_weights(build):
    # Features 33 * 4; per task tables of 12 + 9 ids and 4 + 3 macro nodes of width 4, two
    # aggregators of three matrices [4, 8], dense layers [75, 6] and [6, 4] with bias and alpha, and
    # a logit [4, 1] + 1. The 75 are 14 * 4 and the 19 of the features.
    weights = build("macgnn").trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == 33 * 4 + 2 * (
        (12 + 9 + 4 + 3) * 4 + 2 * 3 * 4 * 8 + 75 * 6 + 2 * 6 + 6 * 4 + 2 * 4 + 4 + 1
    )


def test_reads_ids(build, macro_graph):
    model = MacGNN([Task(name="a")], INPUTS[2:4], macro_graph=macro_graph, **SIZES)
    with pytest.raises(ValueError, match=r"the batch lacks \['item_id'\], by which macro neighbo"):
        model({"user_id": tf.zeros([2], tf.int32)})
