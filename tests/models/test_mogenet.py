import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.conftest import (
    INPUTS,
    ITEMS,
    TASKS,
    USERS,
    as_tensors,
    bank,
    compiled,
    embedded_rows,
    first_batch,
    leaky,
    network,
    randomize,
    softmax,
)
from tfmtl.data import FeatureEncoder
from tfmtl.data.pipeline import evaluation_dataset, training_dataset
from tfmtl.datasets import load
from tfmtl.graph import CHANNELS, NeighborSampler, SimilarityConfig, build_graph_bundle
from tfmtl.layers import Edges, NodeStates
from tfmtl.models import MoGENet, build_model, predict_log
from tfmtl.testing import assert_experts_differ, assert_gradients_reach_every_weight

ALL = {"channels": tuple(CHANNELS), "num_layers": 2}


def random_states(model, rows, seed=5):
    rng = np.random.default_rng(seed)
    keys = (*model.user_states, *model.item_states)
    return {
        key: rng.normal(size=[rows, model.graph_bottom.mgnn.dim]).astype(np.float32) for key in keys
    }


def gates_of(model, row):
    return {
        task: softmax(network(row, model.gates[task].get_weights())) for task in model.task_names
    }


KAPPAS = {
    "product": lambda user, item, weights: user * item,
    "add": lambda user, item, weights: user + item,
    "concat": lambda user, item, weights: np.concatenate([user, item], axis=1),
    "mlp": lambda user, item, weights: leaky(
        np.concatenate([user, item], axis=1) @ weights[0] + weights[1]
    ),
}


@pytest.mark.parametrize("kappa", sorted(KAPPAS))
@pytest.mark.parametrize(("tower_units", "num_experts"), [((), None), ((3,), None), ((), 3)])
def test_equation_4(build, log, kappa, tower_units, num_experts):
    model = build("mogenet", **ALL, kappa=kappa, tower_units=tower_units, num_experts=num_experts)
    randomize(model)
    states = random_states(model, 11)
    logits = model({**as_tensors(log.features), "states": as_tensors(states)})

    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    experts = bank(row, model.experts.get_weights())
    # Z: G and G^U of the user with G and G^I of the item.
    pairs = [
        ("interaction/user", "interaction/item"),
        ("interaction/user", "item_similarity/item"),
        ("user_similarity/user", "interaction/item"),
        ("user_similarity/user", "item_similarity/item"),
    ][:num_experts]
    weights = model.interaction.get_weights()
    context = np.stack(
        [KAPPAS[kappa](states[user], states[item], weights) for user, item in pairs], axis=1
    )
    enhanced = np.concatenate([experts, context], axis=2)
    for task, gate in gates_of(model, row).items():
        mixed = np.einsum("bn,bnh->bh", gate, enhanced)
        expected = network(mixed, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-4, atol=1e-4)


def test_initial_states_are_projections_of_the_features(build, node_features):
    model = build("mogenet")
    randomize(model)
    table = model.embedding.get_weights()[0]
    kernel, bias = model.graph_bottom.projections["user"].get_weights()
    # Rows of the table: padding 0, users 1-12, items 13-21, ages 22-26, tags 27-32.
    age = node_features["user"]["age"]
    features = np.concatenate([table[1 + np.arange(USERS)], table[22 + age]], axis=1)
    received = model.graph_bottom.initial_states("user", tf.range(USERS))
    np.testing.assert_allclose(received, features @ kernel + bias, rtol=1e-4, atol=1e-5)

    kernel, bias = model.graph_bottom.projections["item"].get_weights()
    tags = node_features["item"]["tags"]
    present = (tags > 0)[..., np.newaxis]
    mean = (table[27 + tags] * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    features = np.concatenate([table[13 + np.arange(ITEMS)], mean], axis=1)
    received = model.graph_bottom.initial_states("item", tf.range(ITEMS))
    np.testing.assert_allclose(received, features @ kernel + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(
    "channels", [tuple(CHANNELS), ("interaction",), ("user_similarity", "item_similarity")]
)
def test_full_graph_equals_exhaustive_sampling(build, dataset, edge_sets, channels, layers):
    model = build(
        "mogenet",
        channels=channels,
        num_layers=layers,
        edge_behaviors=True,
        use_edge_weight=True,
        attention="additive" if layers == 2 else "dot",
    )
    randomize(model)
    states = model.compute_node_states(edge_sets, block_nodes=5)
    for features, _, _ in dataset(model):
        sampled = model(features)
        looked_up = model(states({k: v for k, v in features.items() if k != "graph"}))
        for task in model.task_names:
            np.testing.assert_allclose(sampled[task], looked_up[task], atol=1e-5)


@pytest.mark.slow
def test_from_a_log_to_equal_answers():
    """Through the encoder, the graph builder, the sampler and training."""
    loaded = load("simulator", num_users=30, num_items=20, num_rows=900)
    train = loaded.split.train
    encoder = FeatureEncoder.fit(train)
    similarity = SimilarityConfig(min_degree=1, top_k=4, min_common=1)
    bundle = build_graph_bundle(train, encoder, similarity=similarity)
    assert all(store.num_edges for store in bundle.edge_sets.values())
    small = {"dim": 4, "embedding_dim": 4, "edge_behaviors": True, "use_edge_weight": True}
    model = build_model("mogenet", loaded.log.schema, encoder, small)
    model.build_weights()
    compiled(model, keras.optimizers.Adam(0.01))
    rows = encoder.encode(train)
    sampler = NeighborSampler(bundle, fan_outs=(3, 2))
    history = model.fit(training_dataset(rows, batch_size=64, sample=sampler), verbose=0).history
    assert np.isfinite(history["total_loss"][0])

    edges = {name: Edges.from_csr(store) for name, store in bundle.edge_sets.items()}
    held = encoder.encode(loaded.split.test)
    full = predict_log(model, held, node_states=model.compute_node_states(edges), batch_size=50)
    everyone = NeighborSampler(bundle, fan_outs=(1000, 1000), mask_own_edges=False)
    sampled = [
        model.probabilities(features)
        for features, _, _ in evaluation_dataset(held, batch_size=70, sample=everyone)
    ]
    for task in model.task_names:
        received = np.concatenate([batch[task] for batch in sampled])
        np.testing.assert_allclose(received, full[task], atol=1e-5)


@pytest.mark.slow
def test_xla_gives_the_same_answers(build, dataset):
    model = build("mogenet", **ALL)
    features, _, _ = first_batch(dataset(model))
    compiled_call = tf.function(lambda batch: model(batch), jit_compile=True)
    for task, logits in compiled_call(features).items():
        np.testing.assert_allclose(logits, model(features)[task], atol=1e-5)


def test_answers_do_not_depend_on_the_batch(build, log, edge_sets):
    model = build("mogenet", **ALL)
    randomize(model)
    features = model.compute_node_states(edge_sets)(as_tensors(log.features))
    together = model(features)["click"]
    alone = [
        model(tf.nest.map_structure(lambda part, row=row: part[row : row + 1], features))["click"]
        for row in range(11)
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)


def test_experts_differ_at_the_start(build):
    for kernel in build("mogenet", **ALL).experts.kernels:
        assert_experts_differ(kernel.numpy())


@pytest.mark.parametrize("kappa", ["product", "concat", "add", "mlp"])
@pytest.mark.parametrize(("attention", "depth"), [("dot", "lstm"), ("additive", "geniepath")])
def test_gradients_reach_every_weight(build, dataset, kappa, attention, depth):
    model = build(
        "mogenet",
        **ALL,
        kappa=kappa,
        attention=attention,
        depth=depth,
        edge_behaviors=True,
        use_edge_weight=True,
        weighting="static",
    )
    features, _, _ = first_batch(dataset(model, 11))
    assert_gradients_reach_every_weight(model, features)


@pytest.mark.parametrize(
    "options",
    [
        {"kappa": "mlp", "attention": "additive", "depth": "geniepath"},
        {"kappa": "concat", "edge_behaviors": True, "use_edge_weight": True, "l2_embedding": 0.01},
        {"kappa": "add", "share_output_vector": True, "cooperative_level": "batch", "dropout": 0.1},
    ],
    ids=["additive_geniepath", "edge_features", "shared_vector"],
)
def test_options_train(build, dataset, options):
    model = build("mogenet", cooperative_weight=0.1, **options)
    compiled(model, keras.optimizers.Adam(0.03))
    history = model.fit(dataset(model), epochs=12, verbose=0).history
    assert history["total_loss"][-1] < history["total_loss"][0]


@pytest.mark.parametrize(
    ("channels", "users", "items"),
    [
        (("interaction",), 1, 1),
        (("interaction", "user_similarity"), 2, 1),
        (("interaction", "item_similarity"), 1, 2),
        (("user_similarity", "item_similarity"), 1, 1),
        (tuple(CHANNELS), 2, 2),
    ],
)
def test_one_expert_per_pair_of_channels(build, log, edge_sets, channels, users, items):
    model = build("mogenet", channels=channels)
    assert (len(model.user_states), len(model.item_states)) == (users, items)
    assert model.experts.num_experts == users * items
    states = model.compute_node_states(edge_sets)
    assert set(states.tables) == {*model.user_states, *model.item_states}
    assert model(states(as_tensors(log.features)))["click"].shape == (11,)


@pytest.mark.parametrize("num_experts", [0, 3])
def test_refuses_more_experts_than_pairs(build, num_experts):
    with pytest.raises(ValueError, match=f"from 1 to 2, the pairs .*; received {num_experts}"):
        build("mogenet", channels=("interaction", "item_similarity"), num_experts=num_experts)


@pytest.mark.parametrize("channels", [("user_similarity",), ("item_similarity",)])
def test_refuses_channels_that_leave_a_side_without_state(build, channels):
    with pytest.raises(ValueError, match=f"reach both users and items; received .*{channels[0]}"):
        build("mogenet", channels=channels)


def test_share_output_vector(build, log):
    model = build("mogenet", **ALL, share_output_vector=True)
    own = build("mogenet", **ALL)
    assert model.towers["click"] is model.towers["click_x"]
    assert own.towers["click"] is not own.towers["click_x"]
    # v has one entry per column of [f || Z], 4 + 4, and there is a bias.
    difference = len(own.trainable_weights) - len(model.trainable_weights)
    assert (difference, own.towers["click"].count_params()) == (2, 9)
    # Tasks differ through their gates, and with equal gates not at all.
    features = {**as_tensors(log.features), "states": as_tensors(random_states(model, 11))}
    randomize(model)
    logits = model(features)
    assert np.all(logits["click"].numpy() != logits["click_x"].numpy())
    model.gates["click"].set_weights(model.gates["click_x"].get_weights())
    logits = model(features)
    np.testing.assert_array_equal(logits["click"], logits["click_x"])


def test_rows_and_nodes_share_one_embedding(build, dataset):
    model = build("mogenet")
    features, _, _ = first_batch(dataset(model))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.graph_bottom.initial_states("user", features["user_id"]))
    assert tape.gradient(loss, model.embedding.trainable_weights[0]) is not None


@pytest.mark.parametrize("level", ["row", "batch"])
def test_equation_8_adds_cooperation_and_penalty(build, log, level):
    model = build(
        "mogenet", **ALL, cooperative_weight=0.25, cooperative_level=level, l2=0.01, dim=3
    )
    randomize(model)
    features = {**as_tensors(log.features), "states": as_tensors(random_states(model, 11))}
    batch = tf.data.Dataset.from_tensors((features, log.labels, log.weights))
    compiled(model, keras.optimizers.SGD(0.0))
    received = model.evaluate(batch, return_dict=True, verbose=0)

    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    cooperation = 0.0
    for gate in gates_of(model, row).values():
        values = gate if level == "row" else gate.mean(axis=0, keepdims=True)
        pairs = itertools.combinations(range(4), 2)
        cooperation -= np.mean(sum(values[:, n] * values[:, m] for n, m in pairs))
    kernels = [
        weight.numpy()
        for weight in model.trainable_weights
        if not any(part in weight.name for part in ("bias", "table", "log_variance"))
    ]
    # Per channel Q, K, W and two of the gate; two projections; two experts' layers; per task
    # two of the gate and v.
    assert len(kernels) == 3 * 5 + 2 + 2 + 2 * 3
    penalty = 0.01 * sum(np.square(kernel).sum() for kernel in kernels)
    expected = 0.25 * cooperation + penalty
    assert received["regularization_loss"] == pytest.approx(expected, rel=1e-4)
    assert received["total_loss"] == pytest.approx(received["loss"] + expected, rel=1e-4)


def test_without_cooperation_only_the_penalty_is_left(build, log):
    model = build("mogenet", cooperative_weight=0.0, l2=0.0)
    model({**as_tensors(log.features), "states": as_tensors(random_states(model, 11))})
    assert model.losses == []


def test_an_unknown_user_and_item_have_an_answer(build, log, edge_sets):
    model = build("mogenet", **ALL)
    features = as_tensors(log.features)
    features |= {"user_id": tf.zeros([11], tf.int32), "item_id": tf.zeros([11], tf.int32)}
    assert np.all(np.isfinite(model(model.compute_node_states(edge_sets)(features))["click"]))


def test_states_in_half_precision_stay_close(build, log, edge_sets, half_precision):
    half = build("mogenet", **ALL, attention="additive", edge_behaviors=True)
    states = half.compute_node_states(edge_sets)
    assert all(table.dtype == tf.float32 for table in states.tables.values())
    received = half(states(as_tensors(log.features)))["click"]
    keras.mixed_precision.set_global_policy("float32")
    single = build("mogenet", **ALL, attention="additive", edge_behaviors=True)
    single.set_weights(half.get_weights())
    expected = single(single.compute_node_states(edge_sets)(as_tensors(log.features)))["click"]
    assert received.dtype == tf.float32
    np.testing.assert_allclose(received, expected, atol=5e-3)


def test_trains_on_states_that_are_given(build, log):
    """A batch with `states` needs no graph; the MGNN is then out of the loss."""
    model = build("mogenet", l2=0.0, weighting="static")
    features = {**as_tensors(log.features), "states": as_tensors(random_states(model, 11))}
    unused = ["_convolution/", "_gate/kernel", "_gate/recurrent", "_gate/bias"]
    unused += ["_projection/"]
    assert_gradients_reach_every_weight(model, features, unused=unused)


def test_a_batch_needs_a_graph_or_states(build, log):
    with pytest.raises(ValueError, match=r"neither 'graph' nor 'states'; .* a NeighborSampler"):
        build("mogenet")(as_tensors(log.features))


def test_defaults_are_those_of_the_paper(node_features):
    model = MoGENet(TASKS, INPUTS, node_features=node_features)
    assert (
        model.graph_bottom.mgnn.get_config().items()
        >= {
            "dim": 64,
            "num_layers": 2,
            "attention": "dot",
            "depth": "lstm",
            "num_behaviors": 0,
            "l2": 1e-3,
        }.items()
    )
    assert (model.experts.num_experts, model.experts.units) == (4, [32, 32])
    assert model.gates["click"].units == [16, 16]
    assert (model.interaction.kappa, model.cooperative_weight) == ("product", 1e-6)
    assert type(model.weighting).__name__ == "UncertaintyWeighting"


def test_node_states_need_no_model(build, log, edge_sets):
    """The tables alone carry the graph: a copy of them gives the same answer."""
    model = build("mogenet")
    states = model.compute_node_states(edge_sets)
    copy = NodeStates({key: table.numpy() for key, table in states.tables.items()})
    features = as_tensors(log.features)
    np.testing.assert_array_equal(model(states(features))["click"], model(copy(features))["click"])
