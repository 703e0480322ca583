import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.behavior_chain import CHAIN
from tests.models.conftest import (
    INPUTS,
    TASKS,
    as_tensors,
    compiled,
    embedded_rows,
    macro_graph_of,
    randomize,
    softmax,
)
from tests.models.test_macgnn import (
    dice,
    expert,
    fused,
    macro_weights,
    part,
    randomize_statistics,
    tables_of_rows,
    task_columns,
    weights_of,
)
from tfmtl.graph import CSR
from tfmtl.models import MGOE, SharedBottom
from tfmtl.schema import Task
from tfmtl.testing import assert_experts_differ, assert_gradients_reach_every_weight

FUNNEL = (Task(name="order", order=2), Task(name="view"), Task(name="cart", order=1))
SEQUENCE = ("view", "cart", "order")
# None is a default, and the two differ.
TAU, PREFERENCE_TAU = 0.8, 1.7


@pytest.fixture(scope="module")
def funnel_graph(bundle):
    store = bundle.edge_sets["item_user"]
    bits = np.random.default_rng(21).integers(1, 8, store.num_edges).astype(np.int32)
    return macro_graph_of(
        CSR(store.indptr, store.indices, store.num_columns, {"behavior": bits}), FUNNEL
    )


@pytest.fixture
def funnel(build, funnel_graph):
    """Builds a small model of three tasks, every weight and statistic far from its start."""

    def funnel(**options):
        options = {"tau": TAU, "preference_tau": PREFERENCE_TAU, **options}
        model = build("mgoe", tasks=FUNNEL, macro_graph=funnel_graph, **options)
        randomize(model)
        randomize_statistics(model)
        return model

    return funnel


def micro(weights, rows, of, target):
    """r_u of the latest items or r_i of the latest users, neighbour by neighbour."""
    recent, bits = rows[f"recent_{of}s"], rows[f"recent_{of}_behaviors"]
    table, behaviors = (weights[f"recent_{name}/embeddings"] for name in (f"{of}s", "behaviors"))
    own = part(weights, f"recent_{of}s_neighborhood")
    outputs = []
    for row, ids in enumerate(recent):
        key = table[target[row]] @ own["key"]
        vectors = [table[n] + behaviors[b] for n, b in zip(ids, bits[row], strict=True) if n]
        strengths = [rows["scores"][b] for n, b in zip(ids, bits[row], strict=True) if n]
        total = np.zeros(len(key))
        if vectors:
            scores = [
                np.log(s + 1) / TAU + x @ own["query"] @ key / np.sqrt(len(key))
                for x, s in zip(vectors, strengths, strict=True)
            ]
            for share, x in zip(softmax(np.array(scores)), vectors, strict=True):
                total += share * (x @ own["value"])
        outputs.append(total)
    return np.stack(outputs)


def preference(weights, side, log_counts, nodes):
    """pi of users or items; a learned vector where nothing is known."""
    mixed = macro_weights(log_counts, PREFERENCE_TAU) @ nodes
    known = log_counts[:, 1:].sum(axis=1) > 0
    return np.where(known[:, np.newaxis], mixed, weights[f"no_{side}_preference"])


def passed_on(weights, previous, own):
    """The AIT cell over W_p h^{t-1} and h^t."""
    states = np.stack([previous @ weights["passed_on/kernel"], own], axis=1)
    key, query, value = (weights[f"information/{name}"] for name in ("key", "query", "value"))
    shares = softmax(((states @ key) * (states @ query)).sum(axis=2) / np.sqrt(own.shape[1]))
    return (shares[..., np.newaxis] * (states @ value)).sum(axis=1)


def forward(model, graph, features, mask_padding=True):
    """Logits by task, from equations (d) to (i) in turn; parts without weights are left out."""
    weights = weights_of(model)
    macro = part(weights, "macro_bottom")
    bottom = part(macro, "macro_graph_bottom")
    rows = {**tables_of_rows(graph, features), "scores": graph.scores.astype(np.float64)}
    alpha = {key: macro_weights(rows[key], TAU, mask_padding) for key in ("U1", "U2", "I1", "I2")}
    nodes, outputs = {}, {}
    for number, task in enumerate(model.task_names):
        users, items = (task_columns(bottom[side], number) for side in ("user", "item"))
        nodes[task] = [task_columns(bottom[f"{side}_nodes"], number) for side in ("user", "item")]
        user, item = users[features["user_id"]], items[features["item_id"]]
        own = part(bottom, f"{task}_expert")
        outputs[task] = (
            expert(own, user, item, *nodes[task], alpha, mask_padding)
            if own
            else np.concatenate([user, item], axis=1)
        )
    shared = []
    if "recent_items/embeddings" in macro:
        shared.append(micro(macro, rows, "item", features["item_id"]))
        shared.append(micro(macro, rows, "user", features["user_id"]))
    if model.embedding.inputs:
        shared.append(embedded_rows(weights["table"], features))
    everything = np.concatenate([outputs[task] for task in model.task_names], axis=1)
    group = rows["item_group"]
    logits, previous = {}, None
    for task in SEQUENCE:
        gate = part(bottom, f"{task}_gate/scores")
        shares = softmax(everything @ gate["kernel"] + gate["bias"])
        mixed = sum(shares[:, [n]] * outputs[s] for n, s in enumerate(model.task_names))
        state = fused(part(weights, "fusion"), np.concatenate([mixed, *shared], axis=1))
        tower = part(weights, f"{task}_tower")
        if "no_user_preference" in tower:
            number = model.task_names.index(task)
            of_user, of_item = rows["PU"][:, number], rows["PI"][:, number]
            user_nodes, item_nodes = nodes[task]
            parts = [
                state,
                preference(tower, "user", of_user, item_nodes),
                preference(tower, "item", of_item, user_nodes),
                of_user[np.arange(len(group)), group][:, np.newaxis],
            ]
            state = np.concatenate(parts, axis=1)
        hidden = state @ tower["hidden/kernel"] + tower["hidden/bias"]
        hidden = dice(part(tower, "activation"), hidden)
        if "passed_on/kernel" in tower:
            hidden = passed_on(tower, previous, hidden)
        logits[task] = (hidden @ tower["logit/kernel"] + tower["logit/bias"])[:, 0]
        previous = hidden
    return logits


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": "released", "mask_padding": False},
        {"macro_bottom": False},
        {"macro_tower": False},
        {"micro": False},
        {"transfer": False},
        {"inputs": []},
        {"inputs": [], "micro": False, "macro_tower": False},
    ],
    ids=lambda options: "-".join(options) or "whole",
)
def test_golden(options, funnel, log, funnel_graph):
    model = funnel(**options)
    # Training rows of either version, and rows to be scored.
    features = {**log.features, "macro_version": np.arange(len(log), dtype=np.int32) % 3}
    received = model(as_tensors(features))
    assert list(received) == ["order", "view", "cart"]
    expected = forward(model, funnel_graph, features, options.get("mask_padding", True))
    for task, values in expected.items():
        assert np.ptp(values) > 0.5
        np.testing.assert_allclose(received[task], values, rtol=1e-3, atol=2e-3, err_msg=task)


def test_a_shared_table_with_adapters_is_a_table_per_task(funnel, log):
    """Adapters A^t make of one table the tables of all tasks."""
    shared, per_task = funnel(embeddings="shared_adapter"), funnel()
    weights, bottom = weights_of(shared), "macro_bottom/macro_graph_bottom"
    tables = {
        f"{bottom}/{side}": np.concatenate(
            [
                weights[f"{bottom}/{side}"] @ weights[f"{bottom}/{task}_{side}_adapter"]
                for task in shared.task_names
            ],
            axis=1,
        )
        for side in ("user", "item")
    }
    for weight in per_task.weights:
        path = weight.name.partition("/")[2].removesuffix(":0")
        if path in weights:
            weight.assign(tables.get(path, weights[path]))
    features = as_tensors(log.features)
    for task, values in shared(features).items():
        np.testing.assert_allclose(per_task(features)[task], values, rtol=1e-3, atol=1e-3)


WHOLE = {"macro_bottom": True, "macro_tower": True, "micro": True, "transfer": True}
LEFT_OUT = {
    "macro_bottom": ("_expert/",),
    "macro_tower": ("no_user_preference", "no_item_preference"),
    "micro": ("recent_",),
    "transfer": ("passed_on", "information/"),
}


@pytest.mark.parametrize("option", WHOLE)
def test_what_is_left_out_has_no_weights(option, build):
    whole, without = (weights_of(build("mgoe", **{option: value})) for value in (True, False))
    gone = {path for path in whole if any(name in path for name in LEFT_OUT[option])}
    assert gone
    assert without.keys() == whole.keys() - gone
    # Of what is left, only the first layer that read it is narrower.
    narrower = {path for path in without if without[path].shape != whole[path].shape}
    gates = {
        f"macro_bottom/macro_graph_bottom/{t}_gate/scores/kernel" for t in ("click", "click_x")
    }
    assert (
        narrower
        == {
            "macro_bottom": gates | {"fusion/dense/kernel"},
            "macro_tower": {"click_tower/hidden/kernel", "click_x_tower/hidden/kernel"},
            "micro": {"fusion/dense/kernel"},
            "transfer": set(),
        }[option]
    )


@pytest.mark.parametrize("option", WHOLE)
def test_gradients_reach_every_weight_of_what_is_left(option, build, log):
    model = build("mgoe", **{option: False})
    assert_gradients_reach_every_weight(model, as_tensors(log.features))


@pytest.mark.parametrize("options", [{"inputs": []}, {"embeddings": "shared_adapter"}])
def test_gradients_reach_every_weight(options, build, log):
    assert_gradients_reach_every_weight(build("mgoe", **options), as_tensors(log.features))


@pytest.mark.parametrize("tasks", itertools.permutations(FUNNEL))
def test_towers_follow_the_order_of_behaviors_and_not_the_list(tasks, funnel_graph):
    model = MGOE(tasks, INPUTS, macro_graph=funnel_graph)
    assert model.sequence == SEQUENCE
    assert [model.towers[task].transfer for task in SEQUENCE] == [False, True, True]


@pytest.mark.parametrize("tasks", itertools.permutations(CHAIN))
def test_of_equal_order_parents_come_first(tasks, funnel_graph):
    unordered = [task.model_copy(update={"order": 0}) for task in tasks]
    model = MGOE(unordered, INPUTS, macro_graph=funnel_graph)
    assert model.sequence == ("click", "like", "buy")


def changed_tasks(model, before, features):
    after = model(features)
    return {task for task in before if np.any(before[task] != after[task])}


def test_information_flows_forward_only(funnel, log):
    model, features = funnel(), as_tensors(log.features)
    before = model(features)
    for weight in model.towers["cart"].trainable_weights:
        weight.assign_add(tf.ones_like(weight))
    assert changed_tasks(model, before, features) == {"cart", "order"}


def test_without_transfer_towers_are_apart(funnel, log):
    model, features = funnel(transfer=False), as_tensors(log.features)
    before = model(features)
    for weight in model.towers["view"].trainable_weights:
        weight.assign_add(tf.ones_like(weight))
    assert changed_tasks(model, before, features) == {"view"}


def trained_by(model, task, features):
    """Tasks whose expert, and tasks whose columns of a table, a task's loss moves."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(features)[task] ** 2)
    gradients = tape.gradient(loss, model.trainable_weights, unconnected_gradients="zero")
    experts, columns = set(), set()
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        values = tf.convert_to_tensor(gradient).numpy()
        for number, name in enumerate(model.task_names):
            if f"/{name}_expert/" in weight.name and values.any():
                experts.add(name)
            own = task_columns(values, number) if "bottom/user:0" in weight.name else np.zeros(1)
            columns |= {name} if own.any() else set()
    return experts, columns


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("task", SEQUENCE)
def test_a_task_may_train_its_own_expert_alone(task, stop, funnel, log):
    model = funnel(stop_gradient_across_tasks=stop, transfer=False)
    expected = {task} if stop else set(SEQUENCE)
    assert trained_by(model, task, as_tensors(log.features)) == (expected, expected)


def test_through_transfer_a_task_trains_what_precedes_it(funnel, log):
    model = funnel(stop_gradient_across_tasks=True)
    features = as_tensors(log.features)
    assert trained_by(model, "view", features)[0] == {"view"}
    assert trained_by(model, "cart", features)[0] == {"view", "cart"}


def test_training_rows_do_not_read_what_scored_rows_read(funnel, log, funnel_graph):
    model = funnel()
    features = as_tensors(log.features)
    scored = model(features)
    for version in (0, 1, 2):
        versions = tf.fill([len(log)], version)
        received = model({**features, "macro_version": versions})
        differ = any(np.any(scored[task] != received[task]) for task in scored)
        assert differ == (version > 0)
    # With version 0 alone there is nothing else to read.
    served = MGOE(
        FUNNEL,
        INPUTS,
        macro_graph=funnel_graph.scored_version(),
        **{"embedding_dim": 4, "dim": 4, "fusion_units": 6, "tower_units": 4},
        tau=TAU,
        preference_tau=PREFERENCE_TAU,
    )
    served.build_weights()
    served.set_weights(model.get_weights())
    received = served({**features, "macro_version": tf.fill([len(log)], 2)})
    for task, values in scored.items():
        np.testing.assert_array_equal(received[task], values)


def test_gradients_of_tables_are_those_of_rows(build, log):
    """A table's gradient as large as the table would cost as much as all its users."""
    model = build("mgoe", l2_embedding=0.1)
    with tf.GradientTape() as tape:
        logits = model(as_tensors(log.features), training=True)
        loss = tf.add_n([tf.reduce_sum(values) for values in logits.values()] + model.losses)
    tables = [
        weight
        for weight in model.trainable_weights
        if weight.name.endswith(("/user:0", "/item:0", "/table:0"))
        or ("recent_" in weight.name and weight.name.endswith("embeddings:0"))
    ]
    assert len(tables) == 6
    for weight, gradient in zip(tables, tape.gradient(loss, tables), strict=True):
        assert isinstance(gradient, tf.IndexedSlices), weight.name


def test_embeddings_of_the_batch_are_penalised(build, log):
    model = build("mgoe", l2_embedding=0.5, inputs=[])
    features = log.features
    model(as_tensors(features))
    (penalty,) = model.losses
    user, item = (
        weights_of(model)[f"macro_bottom/macro_graph_bottom/{side}"][features[f"{side}_id"]]
        for side in ("user", "item")
    )
    expected = 0.5 * (np.square(user).sum() + np.square(item).sum()) / len(log)
    assert float(penalty) == pytest.approx(expected, rel=1e-5)


def test_experts_gates_and_towers_differ_at_the_start(build, funnel_graph):
    weights = weights_of(build("mgoe", tasks=FUNNEL, macro_graph=funnel_graph))
    for name in (
        "_expert/user_aggregator/value",
        "_expert/item_aggregator/query",
        "_gate/scores/kernel",
        "_tower/hidden/kernel",
    ):
        own = [values for path, values in weights.items() if path.endswith(name)]
        assert len(own) == 3
        assert_experts_differ(own)
    for side in ("user", "item", "user_nodes", "item_nodes"):
        table = weights[f"macro_bottom/macro_graph_bottom/{side}"]
        assert_experts_differ([task_columns(table, number) for number in range(3)])


def test_one_task_has_neither_gate_nor_transfer(bundle, log):
    tasks = [Task(name="click")]
    graph = macro_graph_of(bundle.edge_sets["item_user"], tasks)
    model = MGOE(tasks, INPUTS, macro_graph=graph, dim=4)
    assert model(as_tensors(log.features))["click"].shape == (len(log),)
    names = [weight.name for weight in model.weights]
    assert not [name for name in names if "gate" in name or "passed_on" in name]


def test_ids_are_all_that_it_needs(build, dataset):
    model = build("mgoe", inputs=[])
    assert not [weight for weight in model.weights if weight.name.startswith("embedding")]
    compiled(model, keras.optimizers.Adam(0.03))
    losses = model.fit(dataset(model), epochs=5, verbose=0).history["click_loss"]
    assert losses[-1] < losses[0]
    ids = {name: tf.constant([1, 0, 3]) for name in ("user_id", "item_id")}
    assert model.predict(ids, verbose=0)["click"].shape == (3,)


def test_half_precision_changes_little(build, log, half_precision):
    options = {"seed": 3, "weighting": "static"}
    half = build("mgoe", **options)
    received = half.probabilities(as_tensors(log.features))
    keras.mixed_precision.set_global_policy("float32")
    single = build("mgoe", **options)
    single.set_weights(half.get_weights())
    for task, values in single.probabilities(as_tensors(log.features)).items():
        np.testing.assert_allclose(received[task], values, atol=5e-3)
        assert np.any(np.asarray(received[task]) != np.asarray(values))


def test_macro_graph_of_other_tasks_is_refused(build):
    with pytest.raises(
        ValueError, match="of the model's 3 tasks; received one of 2: build it from the same schema"
    ):
        build("mgoe", tasks=FUNNEL)


def test_a_model_of_features_alone_needs_some():
    with pytest.raises(
        ValueError, match="SharedBottom reads features and received no inputs: leave some out"
    ):
        SharedBottom(TASKS, [])


def test_number_of_weights(build):
    # Features 33 * 4; per task tables of 12 + 9 ids and 4 + 3 macro nodes of width 4, two
    # aggregators of three matrices [4, 8] and a gate [80, 2] + 2. Tables of 12 + 9 latest
    # neighbours and 4 sets of behaviours, and two neighbourhoods of three matrices [4, 8]. A fusion
    # [75, 6] with bias and alpha, where 75 is 10 * 4 + 4 * 4 and the 19 of the features. Per task a
    # tower [15, 4] with bias and alpha, two vectors of width 4 and a logit [4, 1] + 1, where 15 is
    # 6 + 2 * 4 + 1. For the second task W_p, W_K, W_Q and W_V of [4, 4].
    weights = build("mgoe").trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == (
        33 * 4
        + 2 * ((12 + 9 + 4 + 3) * 4 + 2 * 3 * 4 * 8 + 80 * 2 + 2)
        + (12 + 9 + 4) * 4
        + 2 * 3 * 4 * 8
        + (75 * 6 + 6 + 6)
        + 2 * (15 * 4 + 4 + 4 + 2 * 4 + 4 + 1)
        + 4 * 4 * 4
    )
