"""LightGCN, and what NGCF and POGCN share with it."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.conftest import (
    INPUTS,
    ITEMS,
    SMALL,
    TASKS,
    USERS,
    as_tensors,
    compiled,
    first_batch,
    randomize,
)
from tests.models.test_registry import encoder_and_schema
from tests.training.small_experiment import DATASET
from tfmtl.data import FeatureEncoder
from tfmtl.data.pipeline import evaluation_dataset, training_dataset
from tfmtl.datasets import load
from tfmtl.export import export_gap, export_model, raw_request
from tfmtl.graph import NeighborSampler, SizeBuckets, build_graph_bundle
from tfmtl.layers import Edges
from tfmtl.models import MODELS, build_model, predict_log
from tfmtl.schema import Task
from tfmtl.testing import assert_gradients_reach_every_weight
from tfmtl.training import (
    Experiment,
    evaluate_log,
    load_run,
    prepare_data,
    train,
    whole_graph_states,
)

FAMILY = ("light_gcn", "ngcf", "pogcn")


@pytest.fixture(params=FAMILY)
def name(request):
    """The models of ids alone."""
    return request.param


def interactions(bundle, weight_of):
    """Weight of every pair, `[U, I]`, by the behaviour bits of its edge."""
    store = bundle.edge_sets["item_user"]
    users = np.repeat(np.arange(USERS), store.degrees)
    weights = np.zeros((USERS, ITEMS))
    weights[users, store.indices] = [weight_of(int(bits)) for bits in store.data["behavior"]]
    return weights


def normalized(weights):
    """D^{-1/2} A D^{-1/2}."""
    users, items = (
        np.array([total**-0.5 if total else 0 for total in weights.sum(axis)]) for axis in (1, 0)
    )
    return users[:, None] * weights * items


def identities(model):
    """h^0 of users and items from the fused table: padding 0, then users, then items."""
    table = model.embedding.get_weights()[0]
    assert len(table) == 1 + USERS + ITEMS
    return table[1 : 1 + USERS], table[1 + USERS :]


def averaged(matrix, users, items, layers):
    """LightGCN's states by equations 3 and 4."""
    all_users, all_items = [users], [items]
    for _ in range(layers):
        users, items = matrix @ items, matrix.T @ users
        all_users.append(users)
        all_items.append(items)
    return np.mean(all_users, axis=0), np.mean(all_items, axis=0)


def assert_logits_are_scaled_products(logits, model, users, items, features):
    score = np.sum(users[features["user_id"]] * items[features["item_id"]], axis=1)
    for task in model.task_names:
        scale, bias = model.towers[task].get_weights()
        np.testing.assert_allclose(logits[task], scale * score + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_golden(build, log, bundle, edge_sets, layers):
    model = build("light_gcn", num_layers=layers)
    randomize(model)
    logits = model(model.compute_node_states(edge_sets)(as_tensors(log.features)))
    matrix = normalized(interactions(bundle, lambda bits: 1))
    users, items = averaged(matrix, *identities(model), layers)
    assert_logits_are_scaled_products(logits, model, users, items, log.features)


@pytest.mark.parametrize("max_neighbors", [None, USERS])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_full_graph_equals_exhaustive_sampling(
    build, dataset, edge_sets, name, layers, max_neighbors
):
    model = build(name, num_layers=layers, max_neighbors=max_neighbors)
    # Larger weights would make logits of hundreds, of which 1e-5 is beyond float32.
    for weight in model.trainable_weights:
        weight.assign(tf.random.stateless_normal(weight.shape, seed=[1, 2], stddev=0.3))
    states = model.compute_node_states(edge_sets, block_nodes=5)
    for features, _, _ in dataset(model):
        sampled = model(features)
        looked_up = model(states({k: v for k, v in features.items() if k != "graph"}))
        for task in model.task_names:
            np.testing.assert_allclose(sampled[task], looked_up[task], atol=1e-5)


def test_starts_as_the_inner_product(build, log, edge_sets, name):
    """Scales are 1 and biases 0: tasks are told apart by training alone."""
    model = build(name)
    features = as_tensors(log.features)
    states = model.compute_node_states(edge_sets)(features)
    users, items = (states["states"][f"interaction/{side}"] for side in ("user", "item"))
    for logits in model(states).values():
        np.testing.assert_allclose(logits, np.sum(users * items, axis=1), rtol=1e-5, atol=1e-6)


def test_reads_ids_alone(build, log, edge_sets, name):
    model = build(name)
    features = as_tensors(log.features)
    states = model.compute_node_states(edge_sets)
    ids = {key: features[key] for key in ("user_id", "item_id")}
    for task, logits in model(states(features)).items():
        np.testing.assert_array_equal(logits, model(states(ids))[task])


def test_one_task_is_the_single_task_model(build, log, edge_sets, name):
    model = build(name, tasks=TASKS[:1])
    logits = model(model.compute_node_states(edge_sets)(as_tensors(log.features)))
    assert list(logits) == ["click"]
    assert logits["click"].shape == (11,)


def test_number_of_weights(build):
    # Table 22 * 16 (padding, users, items); a scale and a bias per task.
    weights = build("light_gcn", num_layers=3).trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == 22 * 16 + 2 * 2


@pytest.mark.parametrize("layers", [1, 2])
def test_gradients_reach_every_weight_through_rows_of_neighbors(build, dataset, name, layers):
    model = build(name, num_layers=layers, max_neighbors=USERS)
    features, _, _ = first_batch(dataset(model))
    assert_gradients_reach_every_weight(model, features)


def test_penalties(build, log, edge_sets, name):
    model = build(name, l2=0.01, l2_embedding=0.1)
    randomize(model)
    model(model.compute_node_states(edge_sets)(as_tensors(log.features)))
    users, items = identities(model)
    squares = [np.square(users[log.features["user_id"]]), np.square(items[log.features["item_id"]])]
    expected = 0.1 * sum(part.sum(axis=1).mean() for part in squares)
    expected += 0.01 * sum(
        np.square(weight.numpy()).sum()
        for weight in model.trainable_weights
        if "scale" in weight.name or "kernel" in weight.name
    )
    assert float(tf.add_n(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_without_penalties_there_are_no_losses(build, dataset, name):
    model = build(name, l2_embedding=0.0)
    model(first_batch(dataset(model))[0])
    assert model.losses == []


def test_degrees_go_with_a_checkpoint(build, dataset, bundle, name, node_features, tmp_path):
    model = build(name)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    other = MODELS[name](TASKS, INPUTS, node_features=node_features, **SMALL[name])
    other.build_weights()
    tf.train.Checkpoint(model=other).read(path).assert_existing_objects_matched()
    features, _, _ = first_batch(dataset(model))
    for task, logits in model(features).items():
        np.testing.assert_array_equal(logits, other(features)[task])


def test_a_graph_before_its_degrees_is_refused(dataset, build, edge_sets, log, name, node_features):
    model = MODELS[name](TASKS, INPUTS, node_features=node_features, **SMALL[name])
    model.build_weights()
    features, _, _ = first_batch(dataset(build(name)))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"call adapt_to_graph\(bundle\)"):
        model(features)
    compiled(model)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"call adapt_to_graph\(bundle\)"):
        model.fit(dataset(build(name)), verbose=0)
    # The whole graph needs none stored.
    states = model.compute_node_states(edge_sets)
    assert np.isfinite(model(states(as_tensors(log.features)))["click"]).all()


def test_a_batch_needs_a_graph_or_states(build, log, name):
    with pytest.raises(ValueError, match=r"neither 'graph' nor 'states'; .* a NeighborSampler"):
        build(name)(as_tensors(log.features))


@pytest.mark.parametrize("channels", [("item_similarity",), ("interaction", "user_similarity"), ()])
def test_refuses_other_channels(build, name, channels):
    with pytest.raises(ValueError, match=r"walks the interaction graph alone: .*; received \["):
        build(name, channels=channels)


@pytest.mark.parametrize("excluded", [["user_id"], ["item_id", "user_id"]])
def test_refuses_a_log_whose_ids_are_excluded(name, excluded):
    encoder, schema = encoder_and_schema()
    left = [spec.name for spec in encoder.inputs if spec.name not in excluded]
    with pytest.raises(
        ValueError, match=r"reads ids alone: .*: leave the ids out of excl"
    ) as error:
        build_model(name, schema, encoder, {}, exclude_inputs=excluded)
    assert f"received {left}" in str(error.value)


def test_a_model_of_other_features_needs_no_degrees(build, bundle):
    model = build("mmoe")
    before = model.get_weights()
    model.adapt_to_graph(bundle)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_states_in_half_precision_stay_close(build, log, dataset, name, half_precision):
    half = build(name, num_layers=2)
    features, _, _ = first_batch(dataset(half))
    received = half(features)["click"]
    keras.mixed_precision.set_global_policy("float32")
    single = build(name, num_layers=2)
    single.set_weights(half.get_weights())
    assert received.dtype == tf.float32
    np.testing.assert_allclose(received, single(features)["click"], atol=5e-3)


@pytest.fixture(scope="module")
def prepared():
    loaded = load("simulator", num_users=60, num_items=40, num_rows=900)
    encoder = FeatureEncoder.fit(loaded.split.train)
    bundle = build_graph_bundle(loaded.split.train, encoder)
    return loaded, encoder, encoder.encode(loaded.split.train), bundle


@pytest.mark.parametrize("max_neighbors", [None, 3])
def test_padding_changes_neither_answers_nor_gradients(prepared, name, max_neighbors):
    loaded, encoder, rows, bundle = prepared
    options = {"embedding_dim": 4, "max_neighbors": max_neighbors}
    model = build_model(name, loaded.log.schema, encoder, options)
    model.build_weights()
    model.adapt_to_graph(bundle)
    plain = NeighborSampler(bundle, fan_outs=(3, 2), channels=("interaction",))
    buckets = SizeBuckets.fit(plain, rows, 32, num_buckets=2)
    padded = NeighborSampler(bundle, fan_outs=(3, 2), channels=("interaction",), buckets=buckets)
    results = []
    for sampler in (plain, padded):
        features, _, _ = next(iter(training_dataset(rows, batch_size=32, seed=1, sample=sampler)))
        with tf.GradientTape() as tape:
            logits = model(features, training=True)
            loss = tf.add_n([tf.reduce_sum(tf.square(1 - out)) for out in logits.values()])
        gradients = map(tf.convert_to_tensor, tape.gradient(loss, model.trainable_weights))
        results.append([*logits.values(), *gradients])
        nodes = features["graph"].node_sets["user"]["id"].shape[0]
        results[-1].append(tf.constant(nodes))
    *one, small = results[0]
    *other, large = results[1]
    assert small < large
    for left, right in zip(one, other, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_from_a_log_to_equal_answers(prepared, name):
    """Through the encoder, the graph builder, the sampler and training on samples."""
    loaded, encoder, rows, bundle = prepared
    model = build_model(name, loaded.log.schema, encoder, {"embedding_dim": 8})
    model.build_weights()
    model.adapt_to_graph(bundle)
    compiled(model, keras.optimizers.Adam(0.02))
    sampler = NeighborSampler(bundle, fan_outs=(5, 3), channels=("interaction",))
    data = training_dataset(rows, batch_size=64, sample=sampler)
    history = model.fit(data, epochs=4, verbose=0).history
    assert history["total_loss"][-1] < history["total_loss"][0]

    edges = {name: Edges.from_csr(store) for name, store in bundle.edge_sets.items()}
    held = encoder.encode(loaded.split.test)
    full = predict_log(model, held, node_states=model.compute_node_states(edges), batch_size=50)
    everyone = NeighborSampler(
        bundle, fan_outs=(1000, 1000), channels=("interaction",), mask_own_edges=False
    )
    sampled = [
        model.probabilities(features)
        for features, _, _ in evaluation_dataset(held, batch_size=70, sample=everyone)
    ]
    for task in model.task_names:
        received = np.concatenate([batch[task] for batch in sampled])
        np.testing.assert_allclose(received, full[task], atol=1e-5)


def experiment(name, *overrides):
    options = "{embedding_dim: 8, num_layers: 1}"
    return Experiment.from_yaml(
        f"{DATASET}model: {{name: {name}, hyperparameters: {options}}}\n", overrides
    )


@pytest.mark.slow
def test_an_experiment_stores_the_degrees_and_is_served(tmp_path, name):
    chosen = experiment(name)
    data = prepare_data(chosen)
    model = train(chosen, tmp_path / "run", data=data)
    run = load_run(tmp_path / "run")
    for one, other in zip(model.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.model.graph_bottom.propagation.is_adapted
    expected = evaluate_log(model, data.test, bundle=data.bundle)
    received = evaluate_log(run.model, data.test, bundle=run.bundle)
    assert received["click"].auc == pytest.approx(expected["click"].auc)

    states = whole_graph_states(run.model, run.bundle)
    version = export_model(run.model, run.encoder, tmp_path / "served", node_states=states)
    answers = predict_log(run.model, data.test, node_states=states)
    request = raw_request(run.encoder, data.loaded.split.test)
    assert export_gap(version, request, answers) <= 1e-6


def test_an_experiment_refuses_what_the_model_cannot_be_trained_on(name):
    resolved = experiment(name).resolved()["model"]["hyperparameters"]
    assert (resolved["channels"], resolved["max_neighbors"]) == (["interaction"], 3)
    with pytest.raises(ValueError, match=rf"'{name}' knows the degrees .* graph.time_limit to fal"):
        experiment(name, "graph.time_limit=true")
    with pytest.raises(ValueError, match="has 3 hops and the model 1 layers"):
        experiment(name, "graph.fan_out=[3, 3, 3]")
    Experiment.from_yaml(f"{{dataset: {{name: simulator}}, model: {{name: {name}}}}}")


def test_defaults(node_features):
    model = MODELS["light_gcn"]([Task(name="click")], INPUTS, node_features=node_features)
    assert (
        model.graph_bottom.propagation.get_config().items()
        >= {
            "dim": 64,
            "num_users": USERS,
            "num_items": ITEMS,
            "num_layers": 2,
            "update": "sum",
            "readout": "mean",
            "behavior_ranks": [],
            "dropout": 0.0,
        }.items()
    )
    assert model.embedding.l2 == 1e-4
