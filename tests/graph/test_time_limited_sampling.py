"""The neighbour sampler with a time limit."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.data import EncodedLog, training_dataset
from tfmtl.graph import CSR, EDGE_SETS, GraphBundle, NeighborSampler, interaction_stores

from .test_neighbor_sampler import ALL, edges_by_id

USERS, ITEMS = 15, 12


def random_log(seed, num_rows=150):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(1, USERS, num_rows),
        rng.integers(1, ITEMS, num_rows),
        rng.integers(0, 40, num_rows),
    )


def timed_bundle(users, items, times, behaviors=None):
    if behaviors is None:
        behaviors = np.arange(users.size, dtype=np.uint8)
    item_user, user_item = interaction_stores(users, items, behaviors, USERS, ITEMS, times=times)
    ring = np.arange(1, USERS)
    user_user = CSR.from_edges(
        ring, ring % (USERS - 1) + 1, USERS, USERS, {"weight": ring.astype(np.float32)}
    )
    edge_sets = {"item_user": item_user, "user_item": user_item, "user_user": user_user}
    return GraphBundle(edge_sets, USERS, ITEMS)


CHANNELS = ("interaction", "user_similarity")


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("granularity", [0, 7])
def test_equals_the_walk_in_the_graph_of_each_moment(hops, granularity):
    users, items, times = random_log(hops)
    bundle = timed_bundle(users, items, times)
    chosen = np.arange(0, 150, 7)
    sampler = NeighborSampler(
        bundle,
        fan_outs=ALL[:1] * hops,
        channels=CHANNELS,
        time_limit=True,
        time_granularity=granularity,
    )
    graph = sampler.sample(users[chosen], items[chosen], 0, times[chosen])

    limits = times[chosen] // granularity * granularity if granularity else times[chosen]
    expected = {name: Counter() for name in bundle.edge_sets}
    nodes = {"user": Counter(), "item": Counter()}
    for limit in np.unique(limits):
        before = times < limit
        past = timed_bundle(
            users[before], items[before], times[before], np.arange(150, dtype=np.uint8)[before]
        )
        plain = NeighborSampler(
            past, fan_outs=ALL[:1] * hops, channels=CHANNELS, mask_own_edges=False
        )
        rows = chosen[limits == limit]
        reference = plain.sample(users[rows], items[rows], 0)
        for name in expected:
            expected[name].update(edges_by_id(reference, name))
        for side in nodes:
            nodes[side].update(
                zip(reference.ids[side].tolist(), reference.hops[side].tolist(), strict=True)
            )
    for name, edges in expected.items():
        assert Counter(edges_by_id(graph, name)) == edges
        assert np.all(np.diff(graph.targets[name]) >= 0)
    for side, found in nodes.items():
        sampled = zip(graph.ids[side].tolist(), graph.hops[side].tolist(), strict=True)
        assert Counter(sampled) == found
        assert np.all(np.diff(graph.hops[side]) >= 0)
    np.testing.assert_array_equal(graph.ids["user"][graph.readout["user"]], users[chosen])


def test_a_row_never_sees_itself_nor_what_came_later():
    # User 1 meets item 1 at 10 and 20, item 2 at 30; user 2 meets item 1 at 15 and item 3 at 25.
    users, items = np.array([1, 1, 1, 2, 2]), np.array([1, 1, 2, 1, 3])
    bundle = timed_bundle(users, items, np.array([10, 20, 30, 15, 25]))
    sampler = NeighborSampler(
        bundle, fan_outs=ALL, channels=("interaction",), time_limit=True, mask_own_edges=True
    )
    graph = sampler.sample(np.array([1]), np.array([1]), 0, np.array([20]))
    # The earlier edge of the same pair stays; the second hop ends before 20 too: no item 3.
    assert sorted(edges_by_id(graph, "item_user")) == [(1, 1, 0), (2, 1, 3)]
    assert sorted(edges_by_id(graph, "user_item")) == [(1, 1, 0), (1, 2, 3)]
    first = sampler.sample(np.array([1]), np.array([1]), 0, np.array([10]))
    assert all(sources.size == 0 for sources in first.sources.values())


def test_rows_share_nodes_where_their_limits_are_equal():
    bundle = timed_bundle(np.array([1, 1]), np.array([1, 2]), np.array([5, 6]))
    options = {"fan_outs": (9,), "channels": ("interaction",), "time_limit": True}
    rows = np.array([1, 1]), np.array([3, 3]), 0, np.array([70, 80])
    apart = NeighborSampler(bundle, **options).sample(*rows)
    assert apart.ids["user"].tolist() == [1, 1]
    assert apart.readout["user"].tolist() == [0, 1]
    assert sorted(apart.ids["item"].tolist()) == [1, 1, 2, 2, 3, 3]
    shared = NeighborSampler(bundle, **options, time_granularity=60).sample(*rows)
    assert shared.ids["user"].tolist() == [1]
    assert shared.readout["user"].tolist() == [0, 0]
    assert sorted(shared.ids["item"].tolist()) == [1, 2, 3]


def test_a_draw_does_not_depend_on_the_rest_of_the_batch():
    users, items, times = random_log(3)
    bundle = timed_bundle(users, items, times)
    sampler = NeighborSampler(bundle, fan_outs=(2,), channels=CHANNELS, time_limit=True)
    among = sampler.sample(users, items, 5, times)
    for row in (0, 60, 149):
        alone = sampler.sample(users[[row]], items[[row]], 5, times[[row]])
        for name in bundle.edge_sets:
            node = among.readout[EDGE_SETS[name][1]][row]
            drawn = np.flatnonzero(among.targets[name] == node)
            edges = edges_by_id(among, name)
            assert edges_by_id(alone, name) == [edges[place] for place in drawn]


def test_times_of_64_bits_and_fractions_are_exact():
    start = 2**60
    bundle = timed_bundle(np.array([1, 1]), np.array([1, 2]), np.array([start, start + 1]))
    sampler = NeighborSampler(bundle, fan_outs=(9,), channels=("interaction",), time_limit=True)
    for time, met in ((start, []), (start + 1, [1]), (start + 2, [1, 2])):
        graph = sampler.sample(np.array([1]), np.array([3]), 0, np.array([time]))
        assert sorted(graph.ids["item"].tolist()) == [*met, 3]
    small = timed_bundle(np.array([1, 1]), np.array([1, 2]), np.array([7, 8]))
    sampler = NeighborSampler(small, fan_outs=(9,), channels=("interaction",), time_limit=True)
    graph = sampler.sample(np.array([1]), np.array([3]), 0, np.array([7.5]))
    assert sorted(graph.ids["item"].tolist()) == [1, 3]


def encoded_log(times):
    users, items, _ = random_log(1, num_rows=64)
    ones = {"click": np.ones(64, np.float32)}
    features = {"user_id": users.astype(np.int32), "item_id": items.astype(np.int32)}
    return EncodedLog(features, ones, ones, times, None, True)


@pytest.mark.parametrize("as_floats", [False, True])
def test_the_pipeline_hands_times_to_the_sampler_alone(as_floats):
    _, _, times = random_log(1, num_rows=64)
    times = times + 2**52
    encoded = encoded_log(times.astype(float) if as_floats else times)
    bundle = timed_bundle(encoded.features["user_id"], encoded.features["item_id"], times)
    sampler = NeighborSampler(bundle, fan_outs=(2, 2), channels=CHANNELS, time_limit=True)
    assert sampler.needs_time
    seen = 0
    for features, _, _ in training_dataset(encoded, batch_size=8, sample=sampler):
        assert set(features) == {"user_id", "item_id", "graph"}
        graph = features["graph"]
        assert sampler.spec.is_compatible_with(graph)
        seen += graph.edge_sets["item_user"].total_size.numpy()
    assert seen > 0


def batches(sampler, parallel_calls):
    users, items, times = random_log(2, num_rows=96)
    rows = {"user_id": users, "item_id": items, "time": times}
    dataset = tf.data.Dataset.from_tensor_slices(rows).batch(8).enumerate()
    dataset = dataset.map(
        lambda step, batch: sampler(batch, tf.stack([tf.constant(5, tf.int64), step])),
        num_parallel_calls=parallel_calls,
        deterministic=True,
    )
    return [tf.nest.flatten(graph, expand_composites=True) for graph in dataset]


def test_parallel_calls_do_not_change_results():
    sampler = NeighborSampler(
        timed_bundle(*random_log(2)),
        fan_outs=(3, 2),
        channels=CHANNELS,
        time_limit=True,
        weighted=["user_user"],
    )
    one, many = batches(sampler, 1), batches(sampler, 4)
    assert len(one) == len(many) == 12
    for first, second in zip(one, many, strict=True):
        for left, right in zip(first, second, strict=True):
            np.testing.assert_array_equal(left, right)


def test_a_loaded_bundle_draws_the_same(tmp_path):
    users, items, times = random_log(4)
    bundle = timed_bundle(users, items, times)
    bundle.save(tmp_path / "graph")
    loaded = GraphBundle.load(tmp_path / "graph", verify=True)
    one, two = (
        NeighborSampler(graph, fan_outs=(3, 3), channels=CHANNELS, time_limit=True)
        .sample(users, items, 1, times)
        .flat()
        for graph in (bundle, loaded)
    )
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)


def test_says_what_a_time_limit_needs(bundle):
    with pytest.raises(ValueError, match=r"needs edges in the order of time; .* keep_times=True"):
        NeighborSampler(bundle, time_limit=True)
    with pytest.raises(ValueError, match="time_limit=True needs the channel 'interaction'"):
        NeighborSampler(bundle, channels=("user_similarity",), time_limit=True)
    with pytest.raises(ValueError, match="time_granularity of at least 0; received -1"):
        NeighborSampler(bundle, time_granularity=-1)
    timed = timed_bundle(*random_log(0))
    with pytest.raises(ValueError, match=r"own edges are found by column; .* set time_limit=True"):
        NeighborSampler(timed, channels=CHANNELS)
    sampler = NeighborSampler(timed, channels=CHANNELS, time_limit=True)
    one = np.array([1])
    with pytest.raises(ValueError, match="has a time limit and received no times"):
        sampler.sample(one, one, 0)
    with pytest.raises(ValueError, match="has no time limit and received times"):
        NeighborSampler(bundle).sample(one, one, 0, one)
    with pytest.raises(ValueError, match=r"times as numbers of shape \[1\]"):
        sampler.sample(one, one, 0, np.array([1, 2]))
    with pytest.raises(ValueError, match="sample needs the rows' times and the log has none"):
        training_dataset(encoded_log(None), batch_size=8, sample=sampler)
