import json

import numpy as np
import pytest
import tensorflow_gnn as tfgnn

from tfmtl.graph import CSR, BundleError, GraphBundle, interaction_stores


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
        ({"format_version": 1}, "expected format version 2; received 1: build the graph"),
        ({"format_version": 99}, "expected format version 2; received 99: build the graph again"),
        ({"orders": {}}, "item_user"),
        ({"orders": {"item_user": "time"}}, "in the order 'column', the manifest says 'time'"),
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
    (saved / "manifest.json").write_text('{"format": "tfmtl.graph_bundle", "format_version": 2}')
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
    with pytest.raises(ValueError, match="'item_user': expected edge data 'behavior' of dtype uin"):
        GraphBundle({"item_user": bare}, 2, 3)
    for key, values in (("behavior", np.ones(1, np.int64)), ("weight", np.ones(1))):
        wide = CSR(edge.indptr, edge.indices, 3, edge.data | {key: values})
        with pytest.raises(ValueError, match=rf"edge data '{key}' of dtype .*; received .*64"):
            GraphBundle({"item_user": wide}, 2, 3)


def test_an_interaction_takes_five_bytes_in_a_direction(tmp_path):
    rng = np.random.default_rng(0)
    pairs = rng.choice(99 * 99, 4000, replace=False)
    users, items = (part.astype(np.int32) for part in (pairs // 99 + 1, pairs % 99 + 1))
    item_user, user_item = interaction_stores(users, items, np.ones(4000, np.uint8), 100, 100)
    GraphBundle({"item_user": item_user, "user_item": user_item}, 100, 100).save(tmp_path / "g")
    arrays = json.loads((tmp_path / "g" / "manifest.json").read_text())["arrays"]
    dtypes = {name.split("/")[1]: entry["dtype"] for name, entry in arrays.items()}
    assert dtypes == {"indptr.npy": "int32", "indices.npy": "int32", "behavior.npy": "uint8"}
    header = 128
    for name in ("item_user", "user_item"):
        stored = arrays[f"{name}/indices.npy"]["bytes"] + arrays[f"{name}/behavior.npy"]["bytes"]
        assert stored == 5 * 4000 + 2 * header


@pytest.mark.parametrize("array", ["indptr", "indices", "behavior"])
def test_a_bundle_cut_short_says_where(saved, array):
    path = saved / "user_item" / f"{array}.npy"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BundleError, match=rf"user_item/{array}\.npy has \d+ bytes, the manifest"):
        GraphBundle.load(saved)


def test_a_bundle_without_its_header_says_so(saved):
    (saved / "item_item" / "csr.json").unlink()
    with pytest.raises(BundleError, match=r"item_item/csr\.json"):
        GraphBundle.load(saved)


def test_opening_reads_no_edges(saved):
    """Damage inside an array goes unnoticed until `verify` reads it."""
    path = saved / "item_user" / "indices.npy"
    content = bytearray(path.read_bytes())
    content[128:132] = np.int32(10**6).tobytes()
    path.write_bytes(content)
    loaded = GraphBundle.load(saved)
    for store in loaded.edge_sets.values():
        arrays = (store.indptr, store.indices, *store.data.values())
        assert all(isinstance(values, np.memmap) for values in arrays)
    with pytest.raises(BundleError, match="does not match its checksum"):
        GraphBundle.load(saved, verify=True)
