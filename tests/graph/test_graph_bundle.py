import json

import numpy as np
import pytest
import tensorflow_gnn as tfgnn

from tfmtl.graph import CSR, BundleError, GraphBundle


@pytest.fixture
def saved(bundle, tmp_path):
    bundle.save(tmp_path / "graph")
    return tmp_path / "graph"


def edit_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_round_trip_is_memory_mapped(bundle, saved):
    loaded = GraphBundle.load(saved, verify=True)
    assert (loaded.num_users, loaded.num_items) == (40, 30)
    assert list(loaded.edge_sets) == ["item_user", "user_item", "user_user", "item_item"]
    for name, store in bundle.edge_sets.items():
        assert isinstance(loaded.edge_sets[name].indices, np.memmap)
        np.testing.assert_array_equal(loaded.edge_sets[name].indices, store.indices)
        for feature, values in store.data.items():
            np.testing.assert_array_equal(loaded.edge_sets[name].data[feature], values)
    assert loaded.manifest["encoder_fingerprint"] == "a1"
    assert loaded.manifest["num_edges"]["item_user"] == 300


def test_saving_again_replaces_the_bundle(saved):
    smaller = GraphBundle({}, 5, 6)
    smaller.save(saved)
    assert GraphBundle.load(saved).edge_sets == {}
    assert [path.name for path in saved.parent.iterdir()] == ["graph"]


def test_schema_is_readable_by_tfgnn(saved):
    schema = tfgnn.read_schema(str(saved / "graph_schema.pbtxt"))
    assert schema.edge_sets["item_user"].source == "item"
    assert schema.edge_sets["item_user"].target == "user"
    assert schema.edge_sets["user_user"].metadata.cardinality == 150
    assert schema.node_sets["user"].metadata.cardinality == 40
    assert "weight" in schema.edge_sets["item_item"].features


def test_says_which_array_is_missing(saved):
    (saved / "item_user" / "indices.npy").unlink()
    with pytest.raises(BundleError, match=r"array item_user/indices\.npy is missing"):
        GraphBundle.load(saved)


def test_says_which_array_was_cut(saved):
    path = saved / "user_user" / "weight.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BundleError, match=r"user_user/weight\.npy has \d+ bytes, the manifest"):
        GraphBundle.load(saved)


def test_says_which_header_differs(saved):
    path = saved / "user_user" / "weight.npy"
    np.save(path, np.load(path).view(np.int32))
    with pytest.raises(BundleError, match=r"weight\.npy is int32 \[150\], the manifest says float"):
        GraphBundle.load(saved)
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(BundleError, match=r"weight\.npy is not readable"):
        GraphBundle.load(saved)


def test_verify_finds_a_changed_byte(saved):
    path = saved / "user_user" / "weight.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert GraphBundle.load(saved).num_users == 40
    with pytest.raises(BundleError, match=r"weight\.npy does not match its checksum"):
        GraphBundle.load(saved, verify=True)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format_version": 99}, "expected format version 1; received 99: build the graph again"),
        ({"format": "other"}, "does not describe a graph bundle"),
        ({"num_users": 41}, "edge set 'item_user': expected 41 rows"),
        ({"num_edges": {"item_user": 1}}, "'item_user' has 300 edges, the manifest says 1"),
        ({"num_edges": {"user_macro": 1}}, "user_macro"),
    ],
)
def test_says_what_differs_from_the_manifest(saved, changes, match):
    edit_manifest(saved, **changes)
    with pytest.raises(BundleError, match=match):
        GraphBundle.load(saved)


def test_refuses_a_manifest_that_is_absent_or_damaged(saved, tmp_path):
    with pytest.raises(BundleError, match=r"is no graph bundle: manifest\.json is missing"):
        GraphBundle.load(tmp_path / "nowhere")
    (saved / "manifest.json").write_text('{"format": ')
    with pytest.raises(BundleError, match=r"manifest\.json is not JSON"):
        GraphBundle.load(saved)
    (saved / "manifest.json").write_text('{"format": "tfmtl.graph_bundle", "format_version": 1}')
    with pytest.raises(BundleError, match=r"lacks \['arrays', 'num_edges'"):
        GraphBundle.load(saved)


def test_does_not_overwrite_a_folder_of_something_else(bundle, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"holds no manifest\.json"):
        bundle.save(tmp_path)


def test_check_compares_fingerprints(bundle):
    bundle.check(encoder_fingerprint="a1", split_fingerprint="s1")
    with pytest.raises(BundleError, match="with split_fingerprint 's1', now it is 's2'"):
        bundle.check(encoder_fingerprint="a1", split_fingerprint="s2")
    with pytest.raises(BundleError, match="no entry 'colour_fingerprint'"):
        bundle.check(colour_fingerprint="a1")


def test_refuses_edge_sets_that_do_not_fit():
    edge = CSR.from_edges(np.array([1]), np.array([2]), 2, 3, {"behavior": np.ones(1, np.int32)})
    with pytest.raises(ValueError, match="unknown edge set 'likes'"):
        GraphBundle({"likes": edge}, 2, 3)
    with pytest.raises(ValueError, match=r"'user_item': expected 3 rows \(items\) and 2 columns"):
        GraphBundle({"user_item": edge}, 2, 3)
    bare = CSR(edge.indptr, edge.indices, 3)
    with pytest.raises(ValueError, match="'item_user': expected edge data 'behavior' of dtype int"):
        GraphBundle({"item_user": bare}, 2, 3)
