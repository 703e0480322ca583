import importlib.util
import math
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.graph import CHANNELS, CSR, EDGE_SETS, GraphBundle, NeighborSampler, sampling_kernel

ALL = (1 << 30,) * 2
USERS, ITEMS = np.array([3, 17, 3, 0, 25]), np.array([11, 2, 29, 7, 0])


def neighbors(store, row):
    return store.indices[store.indptr[row] : store.indptr[row + 1]].tolist()


def edges_by_id(graph, name):
    """Edges of a sampled subgraph as (target id, source id, feature)."""
    source, target, _ = EDGE_SETS[name]
    return list(
        zip(
            graph.ids[target][graph.targets[name]].tolist(),
            graph.ids[source][graph.sources[name]].tolist(),
            graph.features[name].tolist(),
            strict=True,
        )
    )


def expected_walk(bundle, channel, hops, users, items, own):
    """The full neighbourhood, walked with Python sets: edges per edge set, and hop of each node."""
    names = CHANNELS[channel]
    found = {"user": dict.fromkeys(users, 0), "item": dict.fromkeys(items, 0)}
    edges = {name: set() for name in names}
    expanded = {name: set() for name in names}
    for hop in range(hops):
        starts = {side: [n for n, at in found[side].items() if at == hop] for side in found}
        for name in names:
            source, target, feature = EDGE_SETS[name]
            store = bundle.edge_sets[name]
            for node in starts[target]:
                assert node not in expanded[name]
                expanded[name].add(node)
                for edge in range(store.indptr[node], store.indptr[node + 1]):
                    other = int(store.indices[edge])
                    pair = (node, other) if target == "user" else (other, node)
                    if channel == "interaction" and pair in own:
                        continue
                    edges[name].add((node, other, store.data[feature][edge].item()))
                    found[source].setdefault(other, hop + 1)
    return edges, found


@pytest.mark.parametrize("channels", [*((name,) for name in CHANNELS), tuple(CHANNELS)])
@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("mask_own_edges", [True, False])
def test_exhaustive_fan_out_is_the_whole_neighbourhood(bundle, channels, hops, mask_own_edges):
    sampler = NeighborSampler(
        bundle, fan_outs=ALL[:1] * hops, channels=channels, mask_own_edges=mask_own_edges
    )
    users = np.append(USERS, 12)
    items = np.append(ITEMS, neighbors(bundle.edge_sets["item_user"], 12)[1])
    graph = sampler.sample(users, items, seed=1)
    own = set(zip(users.tolist(), items.tolist(), strict=True)) if mask_own_edges else set()
    hop_of = {"user": {}, "item": {}}
    for channel in channels:
        edges, found = expected_walk(bundle, channel, hops, users.tolist(), items.tolist(), own)
        for name, expected in edges.items():
            sampled = edges_by_id(graph, name)
            assert len(sampled) == len(expected)
            assert set(sampled) == expected
        for side, nodes in found.items():
            for node, hop in nodes.items():
                hop_of[side][node] = min(hop, hop_of[side].get(node, hop))
    assert set(graph.sources) == {name for channel in channels for name in CHANNELS[channel]}
    for side, expected_hops in hop_of.items():
        assert dict(zip(graph.ids[side].tolist(), graph.hops[side].tolist(), strict=True)) == (
            expected_hops
        )
        assert len(graph.ids[side]) == len(expected_hops)


def test_order_and_readout(bundle):
    graph = NeighborSampler(bundle, fan_outs=(4, 3, 2)).sample(USERS, ITEMS, seed=5)
    for side, ids in (("user", USERS), ("item", ITEMS)):
        assert np.all(np.diff(graph.hops[side]) >= 0)
        assert graph.hops[side].max() >= 1
        np.testing.assert_array_equal(graph.ids[side][graph.readout[side]], ids)
        assert np.all(graph.hops[side][graph.readout[side]] == 0)
        assert (graph.hops[side] == 0).sum() == len(set(ids.tolist()))
    for name, (source, target, _) in EDGE_SETS.items():
        assert np.all(np.diff(graph.targets[name]) >= 0)
        assert graph.sources[name].max() < len(graph.ids[source])
        assert graph.targets[name].max() < len(graph.ids[target])
        # A receiver is at least one hop inside, so layers can work on prefixes.
        assert graph.hops[target][graph.targets[name]].max() <= 2
        assert graph.spans[name].shape == (len(graph.ids[target]), 2)
        for node, (first, degree) in enumerate(graph.spans[name].tolist()):
            edges = np.flatnonzero(graph.targets[name] == node).tolist()
            assert edges == list(range(first, first + degree))


@pytest.mark.parametrize("channel", CHANNELS)
def test_prefixes_hold_what_the_channel_found_by_each_hop(bundle, channel):
    alone = NeighborSampler(bundle, fan_outs=(4, 3, 2), channels=(channel,))
    together = NeighborSampler(bundle, fan_outs=(4, 3, 2))
    own, all_channels = (sampler.sample(USERS, ITEMS, seed=5) for sampler in (alone, together))
    for name in CHANNELS[channel]:
        target = EDGE_SETS[name][1]
        within = [(own.hops[target] <= hop).sum() for hop in range(4)]
        assert own.within[name].tolist() == within
        for hop, size in enumerate(all_channels.within[name]):
            expected = set(own.ids[target][: within[hop]].tolist())
            assert expected <= set(all_channels.ids[target][:size].tolist())
            assert all_channels.ids[target][size - 1] in expected


def test_draws_are_distinct_edges_of_the_graph_within_the_fan_out(bundle):
    fan_outs = {
        "item_user": (3, 2),
        "user_item": (4, 1),
        "user_user": (2, 2),
        "item_item": (0, 5),
    }
    sampler = NeighborSampler(bundle, fan_outs=fan_outs, mask_own_edges=False)
    for seed in range(20):
        graph = sampler.sample(USERS, ITEMS, seed=seed)
        for name, (_, target, feature) in EDGE_SETS.items():
            store = bundle.edge_sets[name]
            drawn = edges_by_id(graph, name)
            assert len({edge[:2] for edge in drawn}) == len(drawn)
            for node, other, value in drawn:
                place = neighbors(store, node).index(other)
                assert store.data[feature][store.indptr[node] + place] == value
            for index, node in enumerate(graph.ids[target].tolist()):
                if graph.hops[target][index] == 0:
                    expected = min(fan_outs[name][0], store.degrees[node])
                    assert (graph.targets[name] == index).sum() == expected
    assert graph.sources["item_item"].size == 0


def hub_bundle(degree):
    """User 1 met items 1 to `degree`, user 2 item 1 alone."""
    users = np.append(np.ones(degree, int), 2)
    items = np.append(np.arange(1, degree + 1), 1)
    item_user = CSR.from_edges(
        users, items, 3, degree + 1, {"behavior": np.ones(degree + 1, np.int32)}
    )
    edge_sets = {"item_user": item_user, "user_item": item_user.transpose()}
    return GraphBundle(edge_sets, 3, degree + 1)


@pytest.mark.parametrize(
    ("degree", "fan_out", "own"), [(1000, 10, []), (7, 5, []), (1000, 10, [4, 500]), (9, 5, [1, 9])]
)
def test_every_neighbour_is_drawn_equally_often(degree, fan_out, own):
    sampler = NeighborSampler(hub_bundle(degree), fan_outs=(fan_out,), channels=("interaction",))
    trials = 20_000
    items = np.array([0, *own])
    users = np.ones(items.size, int)
    counts = np.zeros(degree + 1)
    for seed in range(trials):
        graph = sampler.sample(users, items, seed)
        drawn = graph.ids["item"][graph.sources["item_user"]]
        assert drawn.size == fan_out
        counts[drawn] += 1
    assert counts[0] == 0
    assert np.all(counts[own] == 0)
    free = np.setdiff1d(np.arange(1, degree + 1), own)
    share = fan_out / free.size
    deviation = (counts[free] - trials * share) / np.sqrt(trials * share * (1 - share))
    # Binomial counts: the worst of up to 1000 stays within five standard deviations.
    assert np.abs(deviation).max() < 5


def test_own_edges_are_masked_in_both_directions_only_for_own_rows():
    sampler = NeighborSampler(hub_bundle(3), fan_outs=ALL, channels=("interaction",))
    graph = sampler.sample(np.array([1, 1, 2]), np.array([2, 2, 3]), seed=0)
    item_user, user_item = edges_by_id(graph, "item_user"), edges_by_id(graph, "user_item")
    # (1, 2) is a row of the batch, twice. Item 3 keeps user 1: (1, 3) is none.
    assert {edge[:2] for edge in item_user} == {(1, 1), (1, 3), (2, 1)}
    assert {edge[:2] for edge in user_item} == {(3, 1), (1, 1), (1, 2)}


def test_a_large_batch_of_one_hub_masks_all_its_rows():
    sampler = NeighborSampler(hub_bundle(500), fan_outs=(10,), channels=("interaction",))
    items = np.random.default_rng(0).permutation(np.arange(1, 496))
    graph = sampler.sample(np.ones(495, int), items, seed=0)
    assert {edge[1] for edge in edges_by_id(graph, "item_user")} == {496, 497, 498, 499, 500}


class Watched(np.ndarray):
    """An array that counts the entries that are taken from it."""

    taken = 0

    def __getitem__(self, key):
        part = super().__getitem__(key)
        Watched.taken += np.size(part)
        return part


@pytest.fixture
def watched(monkeypatch):
    """The kernel run by the interpreter, over arrays that count what is read of the edges."""
    monkeypatch.setattr("tfmtl.graph.native.native", lambda function: function)
    spec = importlib.util.spec_from_file_location("interpreted", sampling_kernel.__file__)
    kernel = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernel)

    def sample_subgraph(seed, batch, moments, limits, indptrs, *rest):
        per_edge, rest = rest[:-4], rest[-4:]
        per_edge = [tuple(array.view(Watched) for array in arrays) for arrays in per_edge]
        # The hash multiplies modulo 2**64, of which the interpreter warns.
        with np.errstate(over="ignore"):
            return kernel.sample_subgraph(seed, batch, moments, limits, indptrs, *per_edge, *rest)

    module = sys.modules[NeighborSampler.__module__]
    monkeypatch.setattr(module, "sample_subgraph", sample_subgraph)
    monkeypatch.setattr(Watched, "taken", 0)
    return Watched


@pytest.mark.parametrize("mask_own_edges", [False, True])
@pytest.mark.parametrize("degree", [100, 10_000, 1_000_000])
def test_a_hub_costs_no_more_than_its_draws(degree, mask_own_edges, watched):
    """A sampler that shuffles the neighbours of a node to draw ten reads all of a hub's."""
    sampler = NeighborSampler(
        hub_bundle(degree),
        fan_outs=(10,),
        channels=("interaction",),
        mask_own_edges=mask_own_edges,
    )
    graph = sampler.sample(np.array([1]), np.array([degree // 2]), seed=0)
    assert graph.sources["item_user"].size == 10
    # Ten neighbours and their behaviours; the item has one neighbour, the user, or none.
    drawn = 2 * (10 + (0 if mask_own_edges else 1))
    # The row's own edge is looked up from either side by bisection.
    searched = math.ceil(math.log2(degree)) + 4 if mask_own_edges else 0
    assert drawn <= watched.taken <= drawn + searched


def test_unknown_nodes_have_no_neighbours(bundle):
    graph = NeighborSampler(bundle).sample(np.array([0]), np.array([0]), seed=1)
    assert [graph.ids[side].tolist() for side in ("user", "item")] == [[0], [0]]
    assert all(sources.size == 0 for sources in graph.sources.values())


def test_many_nodes_use_hashing_and_growth():
    """A graph so wide that direct tables do not pay: a ring of users around distant items."""
    size = 200_000
    users = np.repeat(np.arange(1, size), 2)
    items = np.stack([np.arange(1, size), np.arange(1, size) % (size - 1) + 1], 1).ravel()
    item_user = CSR.from_edges(users, items, size, size, {"behavior": np.ones(users.size, "i4")})
    edge_sets = {"item_user": item_user, "user_item": item_user.transpose()}
    sampler = NeighborSampler(
        GraphBundle(edge_sets, size, size), fan_outs=(5,) * 40, channels=("interaction",)
    )
    graph = sampler.sample(np.array([100_000, 70, 100_001]), np.array([100_000, 7, 0]), seed=0)
    # Hop by hop the walk leaves each seed by one node in both directions, users and items in turn.
    near = set(range(100_000 - 20, 100_001 + 21)) | set(range(70 - 20, 70 + 21))
    around_item_7 = {(n - 1) % (size - 1) + 1 for n in range(7 - 20, 7 + 20)}
    assert set(graph.ids["user"].tolist()) == near | around_item_7
    assert len(graph.ids["user"]) == len(near | around_item_7)


def test_same_seed_same_draw_and_other_seed_other_draw(bundle):
    sampler = NeighborSampler(bundle, fan_outs=(3, 3))
    first, second, third, fourth = (
        sampler.sample(USERS, ITEMS, seed) for seed in (7, 7, 8, (7, 1))
    )
    for one, two in zip(first.flat(), second.flat(), strict=True):
        np.testing.assert_array_equal(one, two)
    for other in (third, fourth):
        assert edges_by_id(first, "item_user") != edges_by_id(other, "item_user")
    third_set, fourth_set = (set(edges_by_id(graph, "user_item")) for graph in (third, fourth))
    assert third_set != fourth_set


def test_a_draw_does_not_depend_on_the_rest_of_the_batch(bundle):
    sampler = NeighborSampler(bundle, fan_outs=(3,), mask_own_edges=False)
    alone = sampler.sample(np.array([17]), np.array([2]), seed=9)
    among = sampler.sample(USERS, ITEMS, seed=9)
    for name, root in (("item_user", 17), ("user_item", 2), ("user_user", 17), ("item_item", 2)):
        drawn = [edge for edge in edges_by_id(among, name) if edge[0] == root]
        assert edges_by_id(alone, name) == drawn


def test_a_loaded_bundle_draws_the_same(bundle, tmp_path):
    bundle.save(tmp_path / "graph")
    loaded = NeighborSampler(GraphBundle.load(tmp_path / "graph"), fan_outs=(3, 3))
    one = loaded.sample(USERS, ITEMS, seed=2).flat()
    two = NeighborSampler(bundle, fan_outs=(3, 3)).sample(USERS, ITEMS, seed=2).flat()
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)


def sampled_batches(sampler, parallel_calls):
    rng = np.random.default_rng(0)
    rows = {"user_id": rng.integers(0, 40, 96), "item_id": rng.integers(0, 30, 96)}
    dataset = tf.data.Dataset.from_tensor_slices(rows).batch(8).enumerate()
    dataset = dataset.map(
        lambda step, batch: sampler(batch, tf.stack([tf.constant(5, tf.int64), step])),
        num_parallel_calls=parallel_calls,
        deterministic=True,
    )
    return rows, list(dataset)


def test_parallel_calls_do_not_change_results(bundle):
    sampler = NeighborSampler(bundle, fan_outs=(3, 2))
    rows, one = sampled_batches(sampler, 1)
    _, two = sampled_batches(sampler, 2)
    assert len(one) == 12
    for step, (first, second) in enumerate(zip(one, two, strict=True)):
        batch = slice(8 * step, 8 * step + 8)
        direct = sampler.sample(rows["user_id"][batch], rows["item_id"][batch], seed=(5, step))
        for name in EDGE_SETS:
            for graph in (first, second):
                adjacency = graph.edge_sets[name].adjacency
                np.testing.assert_array_equal(adjacency.source, direct.sources[name])
                np.testing.assert_array_equal(adjacency.target, direct.targets[name])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"channels": ("macro",)}, r"unknown channels \['macro'\]"),
        ({"fan_outs": (10, -1)}, "expected fan-outs >= 0"),
        ({"fan_outs": ()}, "expected one fan-out per hop"),
        ({"fan_outs": {"item_user": (5, 5)}}, r"expected fan_outs for the edge sets \['item_user'"),
        (
            {"channels": ("user_similarity",), "fan_outs": {"user_item": (2,)}},
            r"expected fan_outs for the edge sets \['user_user'\].*received \['user_item'\]",
        ),
        (
            {"channels": ("interaction",), "fan_outs": {"item_user": (5, 5), "user_item": (5,)}},
            "expected one fan-out per hop, as many for every edge set",
        ),
    ],
)
def test_refuses_unusable_options(bundle, options, match):
    with pytest.raises(ValueError, match=match):
        NeighborSampler(bundle, **options)


def test_names_an_edge_set_that_the_bundle_lacks(bundle):
    plain = GraphBundle({"item_user": bundle.edge_sets["item_user"]}, 40, 30)
    with pytest.raises(ValueError, match=r"need edge sets \['user_item', 'user_user', 'item_item"):
        NeighborSampler(plain)


@pytest.mark.parametrize(
    ("users", "items", "match"),
    [
        ([], [], r"expected user_id of shape \[B\] with at least one row; received shape \[0\]"),
        ([[1]], [[1]], r"received shape \[1, 1\]"),
        ([1], [30], r"expected item_id in \[0, 30\).*received \[30, 30\]"),
        ([-1, 2], [1, 2], r"expected user_id in \[0, 40\).*received \[-1, 2\]"),
        ([1, 2], [1], "expected as many users as items; received 2 and 1"),
    ],
)
def test_refuses_unusable_batches(bundle, users, items, match):
    sampler = NeighborSampler(bundle)
    with pytest.raises(ValueError, match=match):
        sampler.sample(np.array(users, int), np.array(items, int), seed=0)


def test_a_bad_batch_inside_tf_data_says_why(bundle):
    dataset = tf.data.Dataset.from_tensors({"user_id": [1], "item_id": [99]}).map(
        lambda batch: NeighborSampler(bundle)(batch, tf.constant([0, 0], tf.int64))
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected item_id in \[0, 30\)"):
        list(dataset)
