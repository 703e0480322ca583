import numpy as np
import pyarrow as pa
import pytest

from tfmtl.data import FeatureEncoder, HeldOutLog, TrainingLog
from tfmtl.graph import BundleError, GraphBundle, SimilarityConfig, build_graph_bundle
from tfmtl.schema import Schema, Task

SCHEMA = Schema(tasks=[Task(name="click")], user="u", item="v", time="ts")


@pytest.fixture(scope="module")
def train():
    rng = np.random.default_rng(1)
    users, items = np.divmod(rng.choice(200, 150, replace=False), 20)
    rows = {
        "u": users + 100,
        "v": items + 500,
        "ts": np.arange(150) + 1000,
        "click": (rng.random(150) < 0.8).astype(np.int64),
    }
    return TrainingLog(pa.table(rows), SCHEMA)


def test_a_bundle_knows_what_it_was_made_from(train, tmp_path):
    history = train.select(np.arange(50))
    rest = train.select(np.arange(50, 150))
    encoder = FeatureEncoder.fit(rest, history)
    similarity = SimilarityConfig(measure="jaccard", min_degree=2, min_common=1)
    built = build_graph_bundle(rest, encoder, history=history, similarity=similarity)
    built.save(tmp_path / "graph")
    bundle = GraphBundle.load(tmp_path / "graph", verify=True)

    assert bundle.manifest["time_window"] == [1000, 1149]
    assert bundle.manifest["tasks"] == ["click"]
    assert bundle.manifest["similarity"]["measure"] == "jaccard"
    bundle.check(
        encoder_fingerprint=encoder.fingerprint(),
        split_fingerprint=rest.fingerprint(),
        history_fingerprint=history.fingerprint(),
    )
    with pytest.raises(BundleError, match="was built with encoder_fingerprint"):
        bundle.check(encoder_fingerprint=FeatureEncoder.fit(rest).fingerprint())
    assert bundle.num_users == encoder.vocabularies["user_id"].size
    assert set(bundle.edge_sets) == {"item_user", "user_item", "user_user", "item_item"}
    assert bundle.edge_sets["user_user"].num_edges > 0
    assert bundle.edge_sets["item_item"].data["weight"].max() <= 1
    # Every positive pair is one edge in both directions; pairs of the log are distinct.
    assert bundle.edge_sets["item_user"].num_edges == train.labels("click").sum()
    assert bundle.edge_sets["user_item"].num_edges == train.labels("click").sum()


def test_similarity_can_be_left_out(train):
    bundle = build_graph_bundle(train, FeatureEncoder.fit(train), similarity=None)
    assert set(bundle.edge_sets) == {"item_user", "user_item"}
    assert bundle.manifest["history_fingerprint"] is None


def test_kept_times_do_not_change_similarity(train, tmp_path):
    twice = TrainingLog(pa.concat_tables([train.rows, train.rows.slice(0, 60)]), SCHEMA)
    encoder = FeatureEncoder.fit(twice)
    similarity = SimilarityConfig(min_degree=2, min_common=1)
    merged = build_graph_bundle(twice, encoder, similarity=similarity)
    build_graph_bundle(twice, encoder, similarity=similarity, keep_times=True).save(tmp_path / "g")
    timed = GraphBundle.load(tmp_path / "g", verify=True)
    assert (merged.manifest["keep_times"], timed.manifest["keep_times"]) == (False, True)
    assert timed.manifest["orders"] == {
        "item_user": "time",
        "user_item": "time",
        "user_user": "column",
        "item_item": "column",
    }
    assert timed.edge_sets["item_user"].num_edges == twice.labels("click").sum()
    assert timed.edge_sets["item_user"].num_edges > merged.edge_sets["item_user"].num_edges
    for name in ("user_user", "item_item"):
        one, two = merged.edge_sets[name], timed.edge_sets[name]
        assert one.num_edges > 0
        np.testing.assert_array_equal(one.indptr, two.indptr)
        np.testing.assert_array_equal(one.indices, two.indices)
        np.testing.assert_array_equal(one.data["weight"], two.data["weight"])


def test_refuses_held_out_rows(train):
    with pytest.raises(TypeError, match="split the log first"):
        build_graph_bundle(HeldOutLog(train.rows, SCHEMA), FeatureEncoder.fit(train))


def test_similarity_config_refuses_bad_values():
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        SimilarityConfig(top_k=0)
    with pytest.raises(ValueError, match="'count', 'cosine' or 'jaccard'"):
        SimilarityConfig(measure="dice")
