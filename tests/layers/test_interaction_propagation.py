import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.graph import CSR, GraphBundle, NeighborSampler, SizeBuckets
from tfmtl.graph.graph_tensor import to_graph_tensor
from tfmtl.graph.sampled_subgraph import SampledSubgraph
from tfmtl.layers import Edges, InteractionPropagation
from tfmtl.testing import assert_gradients_reach_every_weight, run_layer_test

USERS, ITEMS, DIM = 14, 11, 3
USER_IDS = np.array([1, 7, 7, 0, 12, 13], np.int32)
ITEM_IDS = np.array([3, 3, 10, 5, 0, 9], np.int32)
RANKS = (1, 2)


def bundle_of(users, items, behaviors, num_users, num_items):
    item_user = CSR.from_edges(
        np.asarray(users),
        np.asarray(items),
        num_users,
        num_items,
        {"behavior": np.asarray(behaviors, np.uint8)},
    )
    edge_sets = {"item_user": item_user, "user_item": item_user.transpose()}
    return GraphBundle(edge_sets, num_users, num_items)


@pytest.fixture(scope="module")
def bundle():
    rng = np.random.default_rng(7)
    keys = rng.choice((USERS - 1) * (ITEMS - 1), 70, replace=False)
    users, items = keys // (ITEMS - 1) + 1, keys % (ITEMS - 1) + 1
    return bundle_of(users, items, rng.integers(0, 4, 70), USERS, ITEMS)


@pytest.fixture(scope="module")
def states():
    rng = np.random.default_rng(3)
    return {
        name: rng.normal(size=[size, DIM]).astype(np.float32)
        for name, size in (("user", USERS), ("item", ITEMS))
    }


def edges_of(bundle):
    return {name: Edges.from_csr(store) for name, store in bundle.edge_sets.items()}


def adapted(bundle, dim=DIM, **options):
    layer = InteractionPropagation(dim, bundle.num_users, bundle.num_items, **options)
    layer.build(None)
    layer.adapt(edges_of(bundle))
    return layer


def sampled(bundle, fan_outs, seed=(1, 2), **options):
    defaults = {"channels": ("interaction",), "mask_own_edges": False}
    sampler = NeighborSampler(bundle, fan_outs=fan_outs, **defaults | options)
    batch = {"user_id": tf.constant(USER_IDS), "item_id": tf.constant(ITEM_IDS)}
    return sampler(batch, tf.constant(seed, tf.int64))


def initial(graph, states):
    return {name: tf.gather(table, graph.node_sets[name]["id"]) for name, table in states.items()}


def rows_of(tables):
    return {
        key: table[USER_IDS if key.endswith("/user") else ITEM_IDS] for key, table in tables.items()
    }


def dense(bundle, ranks, level):
    """Weights of all pairs, `[U, I]`."""
    store = bundle.edge_sets["item_user"]
    weights = np.zeros((bundle.num_users, bundle.num_items))
    users = np.repeat(np.arange(bundle.num_users), store.degrees)
    for user, item, bits in zip(users, store.indices, store.data["behavior"], strict=True):
        rank = sum(value for task, value in enumerate(ranks) if int(bits) >> task & 1)
        weights[user, item] = (rank**level if rank else 0) if ranks else 1
    return weights


def normalized(weights):
    """D^{-1/2} A D^{-1/2} by its definition."""

    def roots(totals):
        return np.array([0 if total == 0 else total**-0.5 for total in totals])

    return roots(weights.sum(1))[:, None] * weights * roots(weights.sum(0))


def test_two_hops_by_hand():
    # User 1 met items 1 and 2, user 2 item 2: d = 2, 1 and 1, 2; 1 / sqrt(d_u d_i) is
    # a = 1 / sqrt 2 for (1, 1), 1 / 2 for (1, 2), a for (2, 2).
    bundle = bundle_of([1, 1, 2], [1, 2, 2], [1, 1, 1], 3, 3)
    a = 2**-0.5
    users, items = np.array([[0], [1], [10]]), np.array([[0], [2], [4]])
    # One hop: user 1 gets 2 a + 4 / 2, user 2 gets 4 a; item 1 gets a, item 2 1 / 2 + 10 a.
    # Two: user 1 gets a a + (1 / 2 + 10 a) / 2 = 3/4 + 5 a, user 2 a (1 / 2 + 10 a) = a / 2 + 5;
    # item 1 gets a (2 a + 2) = 1 + 2 a, item 2 (2 a + 2) / 2 + 4 a a = a + 3.
    expected = {
        "interaction/user": [0, (1 + 2 * a + 2 + 0.75 + 5 * a) / 3, (10 + 4 * a + a / 2 + 5) / 3],
        "interaction/item": [0, (2 + a + 1 + 2 * a) / 3, (4 + 0.5 + 10 * a + a + 3) / 3],
    }
    layer = adapted(bundle, dim=1)
    states = {"user": users.astype(np.float32), "item": items.astype(np.float32)}
    for key, table in layer.full_graph(edges_of(bundle), states).items():
        np.testing.assert_allclose(table[:, 0], expected[key], rtol=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("ranks", [(), RANKS, (2, 1)])
@pytest.mark.parametrize("level", [0, 0.5, 2])
def test_sum_is_a_power_of_the_normalized_matrix(bundle, states, layers, ranks, level):
    layer = adapted(bundle, num_layers=layers, readout="concat", behavior_ranks=ranks, level=level)
    matrix = normalized(dense(bundle, ranks, level))
    expected = {"user": [states["user"]], "item": [states["item"]]}
    for _ in range(layers):
        user, item = expected["user"][-1], expected["item"][-1]
        expected["user"].append(matrix @ item)
        expected["item"].append(matrix.T @ user)
    received = layer.full_graph(edges_of(bundle), states)
    mean = adapted(bundle, num_layers=layers, behavior_ranks=ranks, level=level)
    means = mean.full_graph(edges_of(bundle), states)
    for side, hops in expected.items():
        np.testing.assert_allclose(
            received[f"interaction/{side}"], np.concatenate(hops, axis=1), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            means[f"interaction/{side}"], np.mean(hops, axis=0), rtol=1e-4, atol=1e-5
        )


def test_bi_interaction_is_the_sum_over_edges_of_the_paper(bundle, states):
    layer = adapted(bundle, num_layers=2, update="bi_interaction", readout="concat")
    matrix = normalized(dense(bundle, (), 1))
    user, item = states["user"], states["item"]
    users, items = [user], [item]
    for step in layer._steps:
        first, second = step.get_weights()

        def following(own, others, shares, first=first, second=second):
            # One edge at a time, as equations 3 and 4 have it.
            total = own @ first
            for share, other in zip(shares, others, strict=True):
                total = total + share * (other @ first + (other * own) @ second)
            return np.where(total > 0, total, 0.2 * total)

        user, item = (
            np.stack([following(user[u], item, matrix[u]) for u in range(USERS)]),
            np.stack([following(item[i], user, matrix[:, i]) for i in range(ITEMS)]),
        )
        users.append(user)
        items.append(item)
    received = layer.full_graph(edges_of(bundle), states)
    np.testing.assert_allclose(
        received["interaction/user"], np.concatenate(users, axis=1), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        received["interaction/item"], np.concatenate(items, axis=1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("max_neighbors", [None, USERS])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"behavior_ranks": RANKS, "level": 1.5},
        {"update": "bi_interaction", "readout": "concat"},
    ],
    ids=["light", "ranked", "bi_interaction"],
)
def test_exhaustive_sampling_equals_the_full_graph(bundle, states, layers, max_neighbors, options):
    layer = adapted(bundle, num_layers=layers, max_neighbors=max_neighbors, **options)
    graph = sampled(bundle, (USERS,) * layers)
    received = layer(graph, initial(graph, states))
    expected = rows_of(layer.full_graph(edges_of(bundle), states))
    assert set(received) == set(expected)
    for key, rows in received.items():
        np.testing.assert_allclose(rows, expected[key], atol=1e-5, err_msg=key)


def test_other_channels_of_a_sample_are_passed_over(bundle, states):
    """A user found as a friend first has a state only as long as interactions reach him."""
    rng = np.random.default_rng(2)
    friends = CSR.from_edges(
        np.repeat(np.arange(1, USERS), 2),
        rng.integers(1, USERS, 2 * (USERS - 1)),
        USERS,
        USERS,
        {"weight": np.ones(2 * (USERS - 1), np.float32)},
    )
    wide = GraphBundle({**bundle.edge_sets, "user_user": friends}, USERS, ITEMS)
    graph = sampled(wide, (USERS, USERS), channels=("interaction", "user_similarity"))
    layer = adapted(bundle)
    expected = rows_of(layer.full_graph(edges_of(bundle), states))
    for key, rows in layer(graph, initial(graph, states)).items():
        np.testing.assert_allclose(rows, expected[key], atol=1e-5, err_msg=key)


def estimates(bundle, layer, states, fan_outs, trials):
    """Readouts of the same rows for many seeds, `[trials, B, d]` per key."""
    sampler = NeighborSampler(
        bundle, fan_outs=fan_outs, channels=("interaction",), mask_own_edges=False
    )

    @tf.function(reduce_retracing=True)
    def run(*arrays):
        graph = to_graph_tensor(SampledSubgraph.from_flat(arrays, sampler.edge_sets))
        return layer(graph, initial(graph, states))

    def draw(seed):
        return run(*map(tf.constant, sampler.sample(USER_IDS, ITEM_IDS, seed).flat()))

    drawn = [draw(seed) for seed in range(trials)]
    return {key: np.stack([one[key].numpy() for one in drawn]) for key in drawn[0]}


def deviation(received, expected):
    """Largest distance of a mean from what is expected, in standard errors of that mean."""
    received = np.asarray(received, np.float64)
    error = received.std(axis=0, ddof=1) / len(received) ** 0.5
    # States of rows that draw all their neighbours do not vary.
    return np.max(np.abs(received.mean(axis=0) - expected) / np.maximum(error, 1e-6))


@pytest.mark.parametrize("max_neighbors", [None, 3])
@pytest.mark.parametrize("options", [{}, {"behavior_ranks": RANKS}], ids=["light", "ranked"])
def test_states_of_a_sample_are_unbiased(bundle, states, max_neighbors, options):
    """Over seeds the mean is the full graph's state, as far as its standard error tells."""
    layer = adapted(bundle, max_neighbors=max_neighbors, readout="concat", **options)
    expected = rows_of(layer.full_graph(edges_of(bundle), states))
    received = estimates(bundle, layer, states, (3, 2), 1500)
    for key, draws in received.items():
        assert draws.std(axis=0).max() > 0.1
        # The largest of 6 rows times 9 values: 4.5 errors happen once in 2000 tests.
        assert deviation(draws, expected[key]) < 4.5, key


def test_with_another_scale_samples_are_biased(bundle, states):
    """The check above can fail, as it does where each node misses a tenth of its neighbours."""
    layer = adapted(bundle, readout="concat")
    expected = rows_of(layer.full_graph(edges_of(bundle), states))
    for degrees in layer._degrees.values():
        degrees.assign(degrees * [0.9, 1.0])
    received = estimates(bundle, layer, states, (3, 2), 400)
    assert max(deviation(draws, expected[key]) for key, draws in received.items()) > 6


def test_own_edges_are_stood_in_for_by_the_others():
    # User 1 met items 1 to 4, each of degree 1; the row's own item 4 is masked.
    bundle = bundle_of([1] * 4, [1, 2, 3, 4], [1] * 4, 2, 5)
    layer = adapted(bundle, dim=1, num_layers=1, readout="concat")
    sampler = NeighborSampler(bundle, fan_outs=(9,), channels=("interaction",))
    graph = sampler({"user_id": tf.constant([1]), "item_id": tf.constant([4])}, tf.constant([1]))
    tables = {"user": np.zeros([2, 1], np.float32), "item": np.float32([[0], [1], [2], [6], [100]])}
    # 4 / 3 of (1 + 2 + 6) / sqrt(4 * 1).
    row = layer(graph, initial(graph, tables))["interaction/user"]
    np.testing.assert_allclose(row, [[0, 4 / 3 * 9 / 2]], rtol=1e-6)


@pytest.mark.parametrize("max_neighbors", [None, 3])
def test_padding_changes_nothing(bundle, states, max_neighbors):
    layer = adapted(
        bundle, max_neighbors=max_neighbors, update="bi_interaction", behavior_ranks=RANKS
    )
    graph = sampled(bundle, (3, 2))
    sampler = NeighborSampler(bundle, fan_outs=(3, 2), channels=("interaction",))
    rows = {"user_id": USER_IDS, "item_id": ITEM_IDS}
    buckets = SizeBuckets.fit(sampler, rows, batch_size=6, num_buckets=1)
    padded = sampled(bundle, (3, 2), buckets=buckets)
    sizes = [part.node_sets["user"]["id"].shape[0] for part in (graph, padded)]
    assert sizes[0] < sizes[1]
    received = layer(padded, initial(padded, states))
    for key, rows in layer(graph, initial(graph, states)).items():
        np.testing.assert_allclose(received[key], rows, atol=1e-6, err_msg=key)


def test_a_batch_without_any_edge(bundle, states):
    sampler = NeighborSampler(bundle, fan_outs=(3, 3), channels=("interaction",))
    nobody = {"user_id": tf.zeros([2], tf.int32), "item_id": tf.zeros([2], tf.int32)}
    graph = sampler(nobody, tf.constant([0, 0], tf.int64))
    for key, rows in adapted(bundle)(graph, initial(graph, states)).items():
        np.testing.assert_allclose(rows, states[key.rpartition("/")[2]][[0, 0]] / 3, atol=1e-6)


def test_an_edge_that_was_only_shown_weighs_nothing():
    bundle = bundle_of([1, 1], [1, 2], [0, 2], 2, 3)
    layer = adapted(bundle, dim=1, num_layers=1, readout="concat", behavior_ranks=RANKS, level=0)
    tables = {"user": np.float32([[0], [1]]), "item": np.float32([[0], [7], [3]])}
    received = layer.full_graph(edges_of(bundle), tables)
    # D is 1 for user 1 and item 2, 0 for item 1.
    np.testing.assert_allclose(received["interaction/user"][1], [1, 3])
    np.testing.assert_allclose(received["interaction/item"], [[0, 0], [7, 0], [3, 1]])


def test_dropout_drops_messages_in_training_and_keeps_their_mean(bundle, states):
    layer = adapted(bundle, num_layers=1, readout="concat", dropout=0.5)
    graph = sampled(bundle, (USERS,))
    start = initial(graph, states)
    keras.utils.set_random_seed(1)
    run = tf.function(lambda: layer(graph, start, training=True))
    draws = np.stack([run()["interaction/user"].numpy() for _ in range(1500)])
    expected = layer(graph, start)["interaction/user"].numpy()
    np.testing.assert_array_equal(
        draws[..., :DIM], np.broadcast_to(expected, draws.shape)[..., :DIM]
    )
    assert draws[..., DIM:].std(axis=0).max() > 0.1
    assert deviation(draws, expected) < 4.5
    np.testing.assert_array_equal(layer(graph, start)["interaction/user"], expected)


def test_states_are_not_numbers_until_degrees_are_known(bundle, states):
    layer = InteractionPropagation(DIM, USERS, ITEMS)
    graph = sampled(bundle, (3, 3))
    outputs = layer(graph, initial(graph, states))
    assert not layer.is_adapted
    assert np.isnan(outputs["interaction/user"]).any()
    # The whole graph brings its own.
    assert np.isfinite(layer.full_graph(edges_of(bundle), states)["interaction/user"]).all()
    layer.adapt(edges_of(bundle))
    assert layer.is_adapted
    assert np.isfinite(layer(graph, initial(graph, states))["interaction/user"]).all()


def test_degrees_go_with_the_weights(bundle, states):
    layer, copy = adapted(bundle), InteractionPropagation(DIM, USERS, ITEMS)
    copy.build(None)
    copy.set_weights(layer.get_weights())
    assert layer.trainable_weights == []
    graph = sampled(bundle, (2, 2))
    for key, rows in layer(graph, initial(graph, states)).items():
        np.testing.assert_array_equal(copy(graph, initial(graph, states))[key], rows)


def test_number_of_weights(bundle):
    layer = adapted(bundle, num_layers=3, update="bi_interaction")
    # Two matrices a hop.
    assert sum(weight.shape.num_elements() for weight in layer.trainable_weights) == 3 * 2 * DIM**2
    assert layer.count_params() == 3 * 2 * DIM**2 + 2 * (USERS + ITEMS)
    assert (layer.state_dim, layer.channels) == (DIM, ("interaction",))


def test_gradients_reach_every_weight(bundle, states):
    layer = adapted(bundle, update="bi_interaction", readout="concat")
    graph = sampled(bundle, (3, 2))
    assert_gradients_reach_every_weight(layer, graph, initial(graph, states))


@pytest.mark.slow
@pytest.mark.parametrize("max_neighbors", [None, 3])
def test_as_a_layer(bundle, states, max_neighbors):
    graph = sampled(bundle, (3, 2))
    # Keras cannot write an Input of a graph's type to its own format.
    run_layer_test(
        lambda: adapted(
            bundle,
            update="bi_interaction",
            readout="concat",
            behavior_ranks=RANKS,
            max_neighbors=max_neighbors,
            l2=0.1,
        ),
        graph,
        initial(graph, states),
        formats=["tf"],
    )


@pytest.mark.parametrize("max_neighbors", [None, 3])
def test_xla_gives_the_same_states(bundle, states, max_neighbors):
    layer = adapted(bundle, max_neighbors=max_neighbors, behavior_ranks=RANKS)
    graph = sampled(bundle, (3, 2))
    start = initial(graph, states)
    compiled = tf.function(lambda one, two: layer(one, two), jit_compile=True)(graph, start)
    for key, rows in layer(graph, start).items():
        np.testing.assert_allclose(compiled[key], rows, atol=1e-5, err_msg=key)


def test_full_graph_is_in_full_precision_under_a_half_policy(bundle, states):
    half, single = (
        adapted(bundle, update="bi_interaction", dtype=policy)
        for policy in ("mixed_float16", "float32")
    )
    half.set_weights(single.get_weights())
    expected = single.full_graph(edges_of(bundle), states)
    for key, table in half.full_graph(edges_of(bundle), states).items():
        np.testing.assert_array_equal(table, expected[key])


def test_large_degrees_do_not_overflow_half_precision():
    """A hub of 70000 edges: beyond the largest half."""
    size = 70_001
    bundle = bundle_of([1] * (size - 1), np.arange(1, size), [1] * (size - 1), 2, size)
    layer = adapted(bundle, dim=1, num_layers=1, dtype="mixed_float16")
    sampler = NeighborSampler(bundle, fan_outs=(10,), channels=("interaction",))
    graph = sampler({"user_id": tf.constant([1]), "item_id": tf.constant([0])}, tf.constant([1]))
    tables = {"user": np.zeros([2, 1], np.float32), "item": np.ones([size, 1], np.float32)}
    row = layer(graph, initial(graph, tables))["interaction/user"]
    np.testing.assert_allclose(row, [[70_000**0.5 / 2]], rtol=2e-3)


@pytest.mark.parametrize(("dim", "layers"), [(0, 2), (4, 0)])
def test_refuses_no_width_or_layers(dim, layers):
    with pytest.raises(ValueError, match=f"received dim={dim}, num_layers={layers}"):
        InteractionPropagation(dim, 3, 3, num_layers=layers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update": "gru"}, r"expected an update among \['sum', .*received 'gru' and 'mean'"),
        ({"readout": "last"}, r"a readout among \['mean', 'concat'\]; received 'sum' and 'last'"),
        ({"level": -1}, "expected a level of at least 0, .*; received -1"),
        ({"max_neighbors": 0}, "expected max_neighbors of at least 1, or None; received 0"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        InteractionPropagation(4, 3, 3, **options)


def test_refuses_edges_without_behaviors_to_rank():
    bare = Edges(np.array([1], np.int32), np.array([1], np.int32))
    layer = InteractionPropagation(4, 3, 3, behavior_ranks=RANKS)
    with pytest.raises(ValueError, match="expected edges with behaviours to rank them by"):
        layer.adapt({"item_user": bare, "user_item": bare})


def test_refuses_the_graph_of_another_encoder(bundle):
    layer = InteractionPropagation(4, USERS - 1, ITEMS)
    with pytest.raises(ValueError, match=rf"expected users in \[0, {USERS - 1}\) in edge set"):
        layer.adapt(edges_of(bundle))


def test_refuses_more_neighbors_than_the_rows_have_room_for(bundle, states):
    layer = adapted(bundle, max_neighbors=2)
    graph = sampled(bundle, (3, 2))
    with pytest.raises(tf.errors.InvalidArgumentError, match="more neighbours than max_neighbors"):
        layer(graph, initial(graph, states))
