import dataclasses
import json

import numpy as np
import pytest

from tests.graph.macro_logs import random_stores
from tfmtl.graph import BundleError, MacroConfig, MacroGraph, macro_graph_of_stores
from tfmtl.graph.macro_graph import ARRAYS

SCORES = np.array([0, 1, 2, 2.5], np.float32)


@pytest.fixture(scope="module")
def graph():
    whole, _ = random_stores(1, 20, 15, 90)
    some, _ = random_stores(2, 20, 15, 40)
    return macro_graph_of_stores(
        whole,
        SCORES,
        MacroConfig(user_nodes=3, item_nodes=4, recent=5),
        partial=[lambda: some],
        manifest={"time_window": [10, 20], "split_fingerprint": "s1", "encoder_fingerprint": "a1"},
    )


@pytest.fixture
def saved(graph, tmp_path):
    graph.save(tmp_path / "macro")
    return tmp_path / "macro"


def edit_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_sizes(graph):
    assert (graph.num_versions, graph.num_users, graph.num_items) == (2, 20, 15)
    # Columns: 5 of items, 4 of users, twice 5 of items; and the other way round.
    assert graph.user_rows.shape == (2, 20, 5 + 4 + 2 * 5)
    assert graph.item_rows.shape == (2, 15, 4 + 5 + 2 * 4)
    assert graph.recent_users.shape == (2, 15, 5)
    assert graph.user_rows.dtype == graph.item_rows.dtype == np.float16


def test_round_trip_is_memory_mapped(graph, saved):
    loaded = MacroGraph.load(saved, verify=True)
    for name in ARRAYS:
        values = getattr(loaded, name)
        assert isinstance(values, np.memmap)
        assert values.dtype == getattr(graph, name).dtype
        np.testing.assert_array_equal(values, getattr(graph, name), err_msg=name)
    assert (loaded.num_tasks, loaded.num_user_nodes, loaded.num_item_nodes) == (2, 3, 4)
    assert loaded.manifest["split_fingerprint"] == "s1"


def test_saving_a_loaded_graph_in_its_own_place_keeps_it(graph, saved):
    MacroGraph.load(saved).save(saved)
    again = MacroGraph.load(saved, verify=True)
    np.testing.assert_array_equal(again.user_rows, graph.user_rows)
    assert again.manifest["split_fingerprint"] == "s1"
    assert [path.name for path in saved.parent.iterdir()] == ["macro"]


def test_the_scored_version_is_the_first_alone(graph, tmp_path):
    scored = graph.scored_version()
    assert scored.num_versions == 1
    np.testing.assert_array_equal(scored.user_rows, graph.user_rows[:1])
    np.testing.assert_array_equal(scored.recent_user_behaviors, graph.recent_user_behaviors[:1])
    np.testing.assert_array_equal(scored.item_groups, graph.item_groups[:1])
    assert scored.manifest == graph.manifest
    scored.save(tmp_path / "scored")
    assert MacroGraph.load(tmp_path / "scored").num_versions == 1


def test_verify_finds_a_changed_byte(saved):
    path = saved / "item_rows.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert MacroGraph.load(saved).num_users == 20
    with pytest.raises(BundleError, match=r"item_rows\.npy does not match its checksum"):
        MacroGraph.load(saved, verify=True)


@pytest.mark.parametrize("name", ARRAYS)
def test_says_which_array_is_missing(saved, name):
    (saved / f"{name}.npy").unlink()
    with pytest.raises(BundleError, match=rf"array {name}\.npy is missing; build the graph again"):
        MacroGraph.load(saved)


def test_says_which_array_was_cut_or_is_another(saved):
    path = saved / "recent_items.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(BundleError, match=r"recent_items\.npy has \d+ bytes, the manifest says"):
        MacroGraph.load(saved)
    path.write_bytes(whole)
    np.save(path, np.load(path).view(np.float32))
    with pytest.raises(
        BundleError, match=r"recent_items\.npy is float32 .*, the manifest says int"
    ):
        MacroGraph.load(saved)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format_version": 99}, "expected format version 1; received 99: build the graph again"),
        ({"format": "tfmtl.graph_bundle"}, "does not describe a macro graph"),
        ({"num_tasks": 3}, r"macro: expected user_rows of shape \(2, 20, 24\); received"),
        ({"num_user_nodes": 4}, r"expected user_rows of shape \(2, 20, 20\); received \(2, 20, 19"),
        ({"arrays": {}}, r"lists no arrays \['item_groups\.npy', 'item_rows\.npy'"),
    ],
)
def test_says_what_differs_from_the_manifest(saved, changes, match):
    edit_manifest(saved, **changes)
    with pytest.raises(BundleError, match=match):
        MacroGraph.load(saved)


def test_refuses_a_manifest_that_is_absent_or_damaged(saved, tmp_path):
    with pytest.raises(BundleError, match=r"is no macro graph: manifest\.json is missing"):
        MacroGraph.load(tmp_path / "nowhere")
    (saved / "manifest.json").write_text('{"format": "tfmtl.macro_graph", "format_version": 1}')
    with pytest.raises(BundleError, match=r"lacks \['arrays', 'num_item_nodes', 'num_tasks', 'num"):
        MacroGraph.load(saved)


def test_does_not_overwrite_a_folder_of_something_else(graph, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"holds no manifest\.json"):
        graph.save(tmp_path)


def test_a_crash_while_saving_leaves_the_old_graph(graph, saved, monkeypatch):
    def lost(self, folder):
        raise OSError("disk full")

    monkeypatch.setattr(MacroGraph, "write_manifest", lost)
    with pytest.raises(OSError, match="disk full"):
        graph.scored_version().save(saved)
    assert MacroGraph.load(saved, verify=True).num_versions == 2
    assert [path.name for path in saved.parent.iterdir()] == ["macro"]


def test_check_compares_what_the_graph_was_made_from(graph, saved):
    for one in (graph, MacroGraph.load(saved)):
        one.check(time_window=[10, 20], split_fingerprint="s1", encoder_fingerprint="a1")
        with pytest.raises(
            BundleError,
            match=r"the macro graph was built with time_window \[10, 20\], now it is \[10, 30\]; b",
        ):
            one.check(time_window=[10, 30])
        with pytest.raises(BundleError, match="with split_fingerprint 's1', now it is 's2'"):
            one.check(time_window=[10, 20], split_fingerprint="s2")
        with pytest.raises(BundleError, match="macro graph's manifest has no entry 'colour'"):
            one.check(colour="red")


@pytest.mark.parametrize("name", ARRAYS)
def test_refuses_arrays_that_do_not_fit(graph, name):
    cut = getattr(graph, name)[..., :-1]
    with pytest.raises(ValueError, match=r"expected \w+ of shape .*; received "):
        dataclasses.replace(graph, **{name: cut})


def test_refuses_groups_of_other_nodes(graph):
    with pytest.raises(ValueError, match=r"expected user_rows of shape \(2, 19, 19\)"):
        dataclasses.replace(graph, user_groups=graph.user_groups[:, 1:])
