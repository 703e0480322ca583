import numpy as np
import pyarrow as pa
import pytest

from tfmtl.data import FeatureEncoder, HeldOutLog, TrainingLog
from tfmtl.graph import (
    BundleError,
    GraphBundle,
    SimilarityConfig,
    build_graph_bundle,
    extend_graph_bundle,
)
from tfmtl.schema import Schema, Task

SCHEMA = Schema(tasks=[Task(name="click"), Task(name="like")], user="u", item="v", time="ts")
NUM_ROWS = 1200


@pytest.fixture(scope="module")
def log():
    """Users and items named by hashes, so that new names fall between the old ones."""
    rng = np.random.default_rng(4)
    user = rng.integers(0, 60, NUM_ROWS)
    rows = {
        "u": [f"u{value * 7919 % 101:03d}" for value in user],
        "v": rng.zipf(1.4, NUM_ROWS) * 7919 % 103,
        "ts": np.arange(NUM_ROWS) + 1000,
        "click": (rng.random(NUM_ROWS) < 0.8).astype(np.int64),
        "like": (rng.random(NUM_ROWS) < 0.1).astype(np.int64),
    }
    return TrainingLog(pa.table(rows), SCHEMA)


def assert_same(bundle, expected):
    assert bundle.manifest == expected.manifest
    assert (bundle.num_users, bundle.num_items) == (expected.num_users, expected.num_items)
    assert list(bundle.edge_sets) == list(expected.edge_sets)
    for name, store in expected.edge_sets.items():
        extended = bundle.edge_sets[name]
        np.testing.assert_array_equal(extended.indptr, store.indptr)
        np.testing.assert_array_equal(extended.indices, store.indices)
        assert list(extended.data) == list(store.data)
        for feature, values in store.data.items():
            np.testing.assert_array_equal(extended.data[feature], values)
            assert extended.data[feature].dtype == values.dtype


@pytest.mark.parametrize("measure", ["count", "cosine", "jaccard"])
@pytest.mark.parametrize("options", [{}, {"keep_times": True, "edges": "all"}])
def test_day_by_day_equals_from_scratch(log, measure, options, tmp_path):
    options["similarity"] = SimilarityConfig(
        measure=measure, min_degree=2, min_common=1, top_k=5, max_pivot_degree=40
    )
    days = [log.select(np.arange(last)) for last in (500, 520, 525, NUM_ROWS)]
    encoder = FeatureEncoder.fit(days[0])
    build_graph_bundle(days[0], encoder, **options).save(tmp_path / "graph")
    bundle = GraphBundle.load(tmp_path / "graph")
    sizes = []
    for day in days[1:]:
        encoder_before, encoder = encoder, FeatureEncoder.fit(day)
        bundle = extend_graph_bundle(bundle, encoder_before, day, encoder)
        expected = build_graph_bundle(day, encoder, **options)
        assert_same(bundle, expected)
        sizes.append((bundle.num_users, bundle.num_items, bundle.edge_sets["user_user"].num_edges))
    assert sizes[0] < sizes[-1]
    assert sizes[0][2] > 50


def test_a_day_added_twice_is_added_once(log):
    similarity = SimilarityConfig(min_degree=2, min_common=1)
    first, both = log.select(np.arange(600)), log.select(np.arange(800))
    twice = log.select(np.r_[0:800, 600:800])
    old, new, again = (FeatureEncoder.fit(part) for part in (first, both, twice))
    once = extend_graph_bundle(
        build_graph_bundle(first, old, similarity=similarity), old, both, new
    )
    extended = extend_graph_bundle(once, new, twice, again)
    assert extended.manifest["split_fingerprint"] == twice.fingerprint()
    names = {"split_fingerprint", "encoder_fingerprint"}
    kept = {name: value for name, value in extended.manifest.items() if name not in names}
    fingerprints = {name: once.manifest[name] for name in names}
    assert_same(
        GraphBundle(
            extended.edge_sets, extended.num_users, extended.num_items, kept | fingerprints
        ),
        once,
    )


def test_history_and_parameters_come_from_the_manifest(log):
    history, day = log.select(np.arange(400)), log.select(np.arange(400, 700))
    rest = log.select(np.arange(400, NUM_ROWS))
    options = {"behaviors": ("like",), "similarity": None}
    old, new = FeatureEncoder.fit(day, history), FeatureEncoder.fit(rest, history)
    bundle = build_graph_bundle(day, old, history=history, **options)
    extended = extend_graph_bundle(bundle, old, rest, new, history=history)
    assert_same(extended, build_graph_bundle(rest, new, history=history, **options))


def test_refuses_what_does_not_fit(log):
    first, rest = log.select(np.arange(900)), log.select(np.arange(300, NUM_ROWS))
    old, new = FeatureEncoder.fit(first), FeatureEncoder.fit(log)
    bundle = build_graph_bundle(first, old)
    with pytest.raises(BundleError, match="was built with encoder_fingerprint"):
        extend_graph_bundle(bundle, new, log, new)
    with pytest.raises(BundleError, match=r"manifest lacks \['behaviors', 'edges'"):
        extend_graph_bundle(GraphBundle({}, 1, 1), old, log, new)
    with pytest.raises(ValueError, match="after lacks an edge that before has"):
        extend_graph_bundle(bundle, old, rest, new)
    few = log.select(np.arange(20))
    with pytest.raises(ValueError, match="the new encoder does not know user_id 'u"):
        extend_graph_bundle(bundle, old, log, FeatureEncoder.fit(few))
    with pytest.raises(TypeError, match="split the log first"):
        extend_graph_bundle(bundle, old, HeldOutLog(log.rows, SCHEMA), new)
