import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.data import EncodedLog
from tfmtl.graph import EDGE_SETS, NeighborSampler, SizeBuckets

from .test_time_limited_sampling import timed_bundle

RNG = np.random.default_rng(0)
ROWS = {"user_id": RNG.integers(0, 40, 300), "item_id": RNG.integers(0, 30, 300)}


def padded_and_plain(bundle, **options):
    plain = NeighborSampler(bundle, fan_outs=(3, 2), **options)
    buckets = SizeBuckets.fit(plain, ROWS, 8)
    return plain, NeighborSampler(bundle, fan_outs=(3, 2), buckets=buckets, **options)


def test_padding_follows_what_was_sampled(bundle):
    plain, padded = padded_and_plain(bundle)
    for seed in range(20):
        rows = np.random.default_rng(seed).choice(300, 8)
        batch = ROWS["user_id"][rows], ROWS["item_id"][rows], seed
        first, second = plain.sample(*batch), padded.sample(*batch)
        sizes = {side: second.ids[side].size for side in ("user", "item")}
        sizes |= {name: sources.size for name, sources in second.sources.items()}
        for name, within in second.within.items():
            assert within[-1] == sizes[EDGE_SETS[name][1]]
            assert np.all(within >= first.within[name])
            assert np.all(np.diff(within) >= 0)
            sizes |= {f"{name}/{hop}": size for hop, size in enumerate(within[:-1])}
        assert sizes in padded.buckets.rungs
        for side in ("user", "item"):
            size = first.ids[side].size
            assert size < sizes[side]
            np.testing.assert_array_equal(second.ids[side][:size], first.ids[side])
            np.testing.assert_array_equal(second.hops[side][:size], first.hops[side])
            assert set(second.ids[side][size:].tolist()) == {0}
            assert set(second.hops[side][size:].tolist()) == {3}
            np.testing.assert_array_equal(second.readout[side], first.readout[side])
        for name, (source, target, feature) in EDGE_SETS.items():
            size = first.sources[name].size
            for part in ("sources", "targets", "features"):
                one, two = getattr(first, part)[name], getattr(second, part)[name]
                np.testing.assert_array_equal(two[:size], one)
                assert two.dtype == one.dtype
            assert np.all(np.diff(second.targets[name]) >= 0)
            assert np.all(second.sources[name][size:] == first.ids[source].size)
            assert np.all(second.targets[name][size:] == first.ids[target].size)
            assert np.all(second.features[name][size:] == (feature == "weight"))
            nodes = first.ids[target].size
            np.testing.assert_array_equal(second.spans[name][:nodes], first.spans[name])
            assert not second.spans[name][nodes:].any()


def test_the_lowest_rung_that_holds_the_subgraph_is_taken(bundle):
    one_hop = NeighborSampler(bundle, fan_outs=(2,), channels=("user_similarity",))
    plain = one_hop.sample(np.array([3, 17]), np.array([1, 2]), 0)
    nodes, edges = plain.ids["user"].size, plain.sources["user_user"].size
    rungs = (
        {"user": nodes, "item": 9, "user_user": edges, "user_user/0": 2},
        {"user": nodes + 1, "item": 9, "user_user": edges, "user_user/0": 2},
        {"user": nodes + 5, "item": 9, "user_user": edges + 5, "user_user/0": 2},
    )
    sampler = NeighborSampler(
        bundle, fan_outs=(2,), channels=("user_similarity",), buckets=SizeBuckets(rungs)
    )
    # The first rung has no room for the padding node.
    graph = sampler.sample(np.array([3, 17]), np.array([1, 2]), 0)
    assert graph.ids["user"].size == nodes + 1


def test_the_ladder_ascends_to_the_bound(bundle):
    sampler = NeighborSampler(bundle, fan_outs=(3, 2))
    buckets = SizeBuckets.fit(sampler, ROWS, 1, num_buckets=3)
    assert buckets.rungs[-1]["user"] <= 41
    assert buckets == SizeBuckets.fit(sampler, ROWS, 1, num_buckets=3)
    assert len(SizeBuckets.fit(sampler, ROWS, 1, num_buckets=1).rungs) == 1
    columns = {name: values.astype(np.int32) for name, values in ROWS.items()}
    ones = {"click": np.ones(300, np.float32)}
    encoded = EncodedLog(columns, ones, ones, None, None, True)
    assert buckets == SizeBuckets.fit(sampler, encoded, 1, num_buckets=3)


def test_a_wide_graph_has_rungs_below_its_bound():
    rng = np.random.default_rng(0)
    users, items, times = rng.integers(1, 12, (3, 4000))
    sampler = NeighborSampler(
        timed_bundle(users, items, times, np.ones(4000, np.uint8)),
        fan_outs=(5, 5),
        channels=("interaction",),
        time_limit=True,
    )
    rows = {"user_id": users, "item_id": items, "time": times}
    buckets = SizeBuckets.fit(sampler, rows, 64, num_buckets=3)
    # The median batch and the largest one need the same multiples of 64: one rung below the bound.
    assert len(buckets.rungs) == 2
    assert 4 * buckets.rungs[0]["item"] < buckets.rungs[-1]["item"]
    with pytest.raises(ValueError, match="has a time limit and the rows have no times"):
        SizeBuckets.fit(sampler, {"user_id": users, "item_id": items}, 64)


def test_tensors_have_the_sizes_of_the_rung(bundle):
    _, padded = padded_and_plain(bundle)
    features = {name: values[:8] for name, values in ROWS.items()}
    graph = padded(features, tf.constant([1, 2], tf.int64))
    assert padded.spec.is_compatible_with(graph)
    assert any(
        graph.node_sets["user"].total_size == rung["user"]
        and graph.edge_sets["user_user"].total_size == rung["user_user"]
        for rung in padded.buckets.rungs
    )
    assert graph.node_sets["_readout"].total_size == 8


def test_refuses_ladders_and_samples_that_do_not_fit(bundle):
    plain, padded = padded_and_plain(bundle, channels=("interaction",))
    with pytest.raises(ValueError, match="expected at least one rung"):
        SizeBuckets(())
    with pytest.raises(ValueError, match="that ascend in all of them; received"):
        SizeBuckets(({"user": 5, "item": 5}, {"user": 9, "item": 4}))
    with pytest.raises(ValueError, match="one set of names"):
        SizeBuckets(({"user": 5, "item": 5}, {"user": 9}))
    with pytest.raises(ValueError, match=r"buckets with sizes of .*'item_item/1'\].*same channels"):
        NeighborSampler(bundle, fan_outs=(3, 2), buckets=padded.buckets)
    with pytest.raises(ValueError, match="expected a sampler without buckets"):
        SizeBuckets.fit(padded, ROWS, 8)
    with pytest.raises(ValueError, match="of at least 1; received 0 and 3"):
        SizeBuckets.fit(plain, ROWS, 0)
    with pytest.raises(ValueError, match="batch_size 301 exceeds the 300 rows"):
        SizeBuckets.fit(plain, ROWS, 301)
    with pytest.raises(
        ValueError, match=r"buckets with sizes of .*'user_item/2'.*as many fan-outs"
    ):
        NeighborSampler(
            bundle, fan_outs=(3, 2, 2), channels=("interaction",), buckets=padded.buckets
        )
    tight = SizeBuckets(({name: 3 for name in padded.buckets.rungs[0]},))
    sampler = NeighborSampler(bundle, fan_outs=(3, 2), channels=("interaction",), buckets=tight)
    with pytest.raises(
        ValueError, match=r"the largest bucket has .* fit the buckets with the batc"
    ):
        sampler.sample(ROWS["user_id"][:8], ROWS["item_id"][:8], 0)


# A step over the drawn edges, forward and backward, in the input pipeline's own batches.
PROGRAM = """
import numpy as np
import tensorflow as tf
from tfmtl.data import EncodedLog, training_dataset
from tfmtl.graph import GraphBundle, NeighborSampler, SizeBuckets, interaction_stores

rng = np.random.default_rng(0)
columns = rng.integers(1, 2000, (2, 8000)).astype(np.int32)
stores = interaction_stores(*columns, np.ones(8000, np.uint8), 2000, 2000)
bundle = GraphBundle(dict(zip(("item_user", "user_item"), stores)), 2000, 2000)
ones = {"click": np.ones(8000, np.float32)}
features = dict(zip(("user_id", "item_id"), columns))
rows = EncodedLog(features, ones, ones, None, None, True)
options = {"fan_outs": (4, 4), "channels": ("interaction",)}
plain = NeighborSampler(bundle, **options)
padded = NeighborSampler(
    bundle, **options, buckets=SizeBuckets.fit(plain, rows, 16, num_buckets=3))
table = tf.Variable(tf.random.normal([2000, 4]))

@tf.function(jit_compile=True, input_signature=[plain.spec])
def one_step(graph):
    with tf.GradientTape() as tape:
        users, items = (tf.gather(table, graph.node_sets[s]["id"]) for s in ("user", "item"))
        edges = graph.edge_sets["item_user"].adjacency
        sent = tf.math.unsorted_segment_sum(
            tf.gather(items, edges.source), edges.target, tf.shape(users)[0])
        read = tf.gather(users + sent, graph.edge_sets["_readout/user"].adjacency.source)
        loss = tf.reduce_sum(read ** 2)
    return loss, tf.convert_to_tensor(tape.gradient(loss, table))

sizes = set()
sampler = (plain, padded)[WITH_BUCKETS]
for features, _, _ in training_dataset(rows, batch_size=16, sample=sampler).take(12):
    assert np.isfinite(one_step(features["graph"])[0])
    sizes.add(features["graph"].node_sets["item"].total_size.numpy().item())
print(len(sizes), len(padded.buckets.rungs))
"""


@pytest.mark.slow
@pytest.mark.parametrize("with_buckets", [False, True])
def test_xla_compiles_at_most_once_per_rung(with_buckets, tmp_path):
    """XLA writes one module before optimisation for every program that it compiles."""
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("WITH_BUCKETS", str(int(with_buckets)))],
        env={**os.environ, "XLA_FLAGS": flags},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sizes, rungs = map(int, done.stdout.split())
    compiled = len(list(tmp_path.glob("*one_step*.before_optimizations.txt")))
    if with_buckets:
        assert 1 <= compiled <= rungs <= 3
    else:
        assert compiled >= sizes > 6
