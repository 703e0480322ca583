import numpy as np
import pytest
import tensorflow as tf

from tfmtl.graph import CHANNELS, CSR, EDGE_SETS, GraphBundle, NeighborSampler
from tfmtl.layers import Edges, MultiChannelGNN
from tfmtl.testing import assert_gradients_reach_every_weight, run_layer_test

USERS, ITEMS, DIM = 40, 30, 5
USER_IDS = np.array([1, 7, 7, 0, 12, 39], np.int32)
ITEM_IDS = np.array([3, 3, 20, 5, 0, 29], np.int32)


def random_store(rng, num_rows, num_columns, num_edges, feature):
    keys = rng.choice((num_rows - 1) * (num_columns - 1), num_edges, replace=False)
    rows, columns = keys // (num_columns - 1) + 1, keys % (num_columns - 1) + 1
    values = {
        "behavior": rng.integers(0, 4, num_edges).astype(np.int32),
        "weight": rng.uniform(0.2, 9, num_edges).astype(np.float32),
    }[feature]
    return CSR.from_edges(rows, columns, num_rows, num_columns, {feature: values})


@pytest.fixture(scope="module")
def bundle():
    """Sparse enough that a node is nearer in one channel than in another."""
    rng = np.random.default_rng(7)
    item_user = random_store(rng, USERS, ITEMS, 100, "behavior")
    return GraphBundle(
        {
            "item_user": item_user,
            "user_item": item_user.transpose(),
            "user_user": random_store(rng, USERS, USERS, 60, "weight"),
            "item_item": random_store(rng, ITEMS, ITEMS, 50, "weight"),
        },
        num_users=USERS,
        num_items=ITEMS,
    )


@pytest.fixture(scope="module")
def states():
    rng = np.random.default_rng(3)
    return {
        name: rng.normal(size=[size, DIM]).astype(np.float32)
        for name, size in (("user", USERS), ("item", ITEMS))
    }


def all_edges(bundle):
    return {name: Edges.from_csr(store) for name, store in bundle.edge_sets.items()}


def sampled_graph(bundle, channels, layers):
    """Every neighbour of a batch, its rows' own edges included."""
    sampler = NeighborSampler(
        bundle, fan_outs=(USERS,) * layers, channels=channels, mask_own_edges=False
    )
    batch = {"user_id": tf.constant(USER_IDS), "item_id": tf.constant(ITEM_IDS)}
    return sampler(batch, tf.constant([1, 2], tf.int64))


def initial(graph, states):
    return {name: tf.gather(table, graph.node_sets[name]["id"]) for name, table in states.items()}


def one_node(layer, channel, edge_sets, states, name, node, hops):
    """State and cell of one node after `hops` layers, straight from equations 1 and 2."""
    if hops == 0:
        return states[name][node], states[name][node]
    edge_set = next(key for key in CHANNELS[channel] if EDGE_SETS[key][1] == name)
    sender = EDGE_SETS[edge_set][0]
    state, cell = one_node(layer, channel, edge_sets, states, name, node, hops - 1)
    gate = layer._gates[channel].get_weights()
    query, key, value, *behavior = layer._convolutions[channel].get_weights()
    edges = edge_sets[edge_set]
    scores, neighbors = [], []
    for edge in np.flatnonzero(edges.target == node):
        neighbor, _ = one_node(
            layer, channel, edge_sets, states, sender, edges.source[edge], hops - 1
        )
        weight = 1.0
        if behavior:
            neighbor = neighbor + behavior[0][edges.behavior[edge]]
        elif layer.use_edge_weight:
            weight = edges.weight[edge]
        scores.append(weight * np.exp((state @ query) @ (neighbor @ key) / np.sqrt(DIM)))
        neighbors.append(neighbor)
    message = np.zeros(DIM)
    if scores:
        message = (np.array(scores) / np.sum(scores)) @ np.array(neighbors) @ value
        message = np.where(message > 0, message, 0.2 * message)
    blocks = message @ gate[0] + state @ gate[1] + gate[2]
    admit, keep, emit, candidate = np.split(blocks, 4)
    admit, keep, emit = (1 / (1 + np.exp(-part)) for part in (admit, keep, emit))
    cell = keep * cell + admit * np.tanh(candidate)
    return emit * np.tanh(cell), cell


def test_full_graph_equals_the_equations_node_by_node(bundle, states):
    layer = MultiChannelGNN(DIM, num_behaviors=4, use_edge_weight=True)
    layer.build(None)
    edge_sets = all_edges(bundle)
    outputs = layer.full_graph(edge_sets, states)
    assert {key: table.shape for key, table in outputs.items()} == {
        "interaction/user": (USERS, DIM),
        "interaction/item": (ITEMS, DIM),
        "user_similarity/user": (USERS, DIM),
        "item_similarity/item": (ITEMS, DIM),
    }
    for key, table in outputs.items():
        channel, name = key.split("/")
        for node in (0, 7, 20):
            expected, _ = one_node(layer, channel, edge_sets, states, name, node, 2)
            np.testing.assert_allclose(table[node], expected, atol=1e-5, err_msg=f"{key} {node}")


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "channels", [tuple(CHANNELS), *((name,) for name in CHANNELS)], ids="-".join
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_behaviors": 4, "use_edge_weight": True},
        {"attention": "additive", "depth": "geniepath"},
    ],
    ids=["plain", "edge_features", "additive_geniepath"],
)
def test_exhaustive_sampling_equals_the_full_graph(bundle, states, channels, layers, options):
    layer = MultiChannelGNN(DIM, channels=channels, num_layers=layers, **options)
    graph = sampled_graph(bundle, channels, layers)
    sampled = layer(graph, initial(graph, states))
    full = layer.full_graph(all_edges(bundle), states)
    assert set(sampled) == set(full)
    for key, rows in sampled.items():
        ids = USER_IDS if key.endswith("/user") else ITEM_IDS
        np.testing.assert_allclose(rows, full[key][ids], atol=1e-5, err_msg=key)


def test_a_node_is_nearer_in_one_channel_than_in_another(bundle):
    """Else the cases of three and four layers above would not try what they are there for."""
    graph = sampled_graph(bundle, tuple(CHANNELS), 3)
    edges = graph.edge_sets["item_user"].adjacency
    hops = {name: graph.node_sets[name]["hop"].numpy() for name in ("user", "item")}
    source, target = hops["item"][edges.source], hops["user"][edges.target]
    assert np.any(source > target + 1)


def test_a_batch_without_any_edge(bundle, states):
    sampler = NeighborSampler(bundle, fan_outs=(3, 3))
    nobody = {"user_id": tf.zeros([2], tf.int32), "item_id": tf.zeros([2], tf.int32)}
    graph = sampler(nobody, tf.constant([0, 0], tf.int64))
    layer = MultiChannelGNN(DIM)
    outputs = layer(graph, initial(graph, states))
    full = layer.full_graph(all_edges(bundle), states)
    for key, rows in outputs.items():
        np.testing.assert_allclose(rows, full[key][[0, 0]], atol=1e-6)


def test_channels_and_layers_share_as_in_the_paper(bundle):
    layer = MultiChannelGNN(DIM, num_layers=3)
    layer.build(None)
    # Per channel: query, key and value d^2, gate matrices 2 * 4 d^2, bias 4 d; whatever L is.
    assert layer.count_params() == 3 * (11 * DIM**2 + 4 * DIM)


def test_one_layer_sees_one_hop(bundle, states):
    layer = MultiChannelGNN(DIM, num_layers=1, channels=["user_similarity"])
    layer.build(None)
    edges = all_edges(bundle)
    before = layer.full_graph(edges, states)["user_similarity/user"]
    moved = {**states, "user": states["user"].copy()}
    moved["user"][7] += 1
    after = layer.full_graph(edges, moved)["user_similarity/user"]
    similar = edges["user_user"]
    reached = {7, *similar.target[similar.source == 7]}
    assert set(np.flatnonzero(np.any(before != after, axis=1))) == reached


def test_gradients_reach_every_weight(bundle, states):
    layer = MultiChannelGNN(DIM, attention="additive", num_behaviors=4, use_edge_weight=True)
    graph = sampled_graph(bundle, tuple(CHANNELS), 2)
    assert_gradients_reach_every_weight(layer, graph, initial(graph, states))


def test_weights_have_names_of_their_own():
    layer = MultiChannelGNN(DIM, attention="additive")
    layer.build(None)
    names = [weight.name for weight in layer.weights]
    assert len(set(names)) == len(names)
    assert "user_similarity_convolution/query:0" in names


@pytest.mark.slow
def test_as_a_layer(bundle, states):
    graph = sampled_graph(bundle, tuple(CHANNELS), 2)
    # Keras cannot write an Input of a graph's type to its own format.
    run_layer_test(
        lambda: MultiChannelGNN(DIM, l2=0.1), graph, initial(graph, states), formats=["tf"]
    )


def test_full_graph_is_in_full_precision_under_a_half_policy(bundle, states):
    half, single = MultiChannelGNN(DIM, dtype="mixed_float16"), MultiChannelGNN(DIM)
    for layer in (half, single):
        layer.build(None)
    half.set_weights(single.get_weights())
    edges = all_edges(bundle)
    expected = single.full_graph(edges, states)
    for key, table in half.full_graph(edges, states).items():
        np.testing.assert_array_equal(table, expected[key])


@pytest.mark.parametrize(("dim", "layers"), [(0, 2), (4, 0)])
def test_refuses_no_width_or_layers(dim, layers):
    with pytest.raises(ValueError, match=f"received dim={dim}, num_layers={layers}"):
        MultiChannelGNN(dim, num_layers=layers)


def test_refuses_unknown_channels():
    with pytest.raises(ValueError, match=r"unknown channels \['social'\]"):
        MultiChannelGNN(4, channels=["interaction", "social"])
