import numpy as np
import pytest

from tests.pipelines.beam.conftest import MACRO_CONFIG, OLD_CONFIG
from tfmtl.graph import MacroGraph, build_macro_graph
from tfmtl.graph.macro_graph import ARRAYS
from tfmtl.pipelines.beam import assemble_macro_graph
from tfmtl.pipelines.beam.adjacency_shards import read_document, write_document


def assert_same_macro_graph(received, expected):
    for name in ARRAYS:
        left, right = getattr(received, name), getattr(expected, name)
        assert (left.shape, left.dtype) == (right.shape, right.dtype), name
        if name in ("user_rows", "item_rows"):
            # Logarithms of sums in another order, rounded to half precision.
            np.testing.assert_allclose(
                left.astype(np.float64), right.astype(np.float64), atol=2e-3, err_msg=name
            )
        else:
            np.testing.assert_array_equal(left, right, err_msg=name)
    for name in ("num_tasks", "num_user_nodes", "num_item_nodes"):
        assert getattr(received, name) == getattr(expected, name)


def test_same_macro_graph_as_on_one_machine(shop, macro_shards, tmp_path):
    expected = build_macro_graph(shop.train, shop.encoder, MACRO_CONFIG).scored_version()
    # All macro nodes are used, some users are of none, and some lists of items are full.
    assert set(expected.user_groups[0, 1:]) == set(range(6))
    assert 0 < np.count_nonzero(expected.recent_items[0, 1:, -1]) < expected.num_users - 1
    received = assemble_macro_graph(macro_shards)
    assert received.manifest == expected.manifest
    assert_same_macro_graph(received, expected)
    on_disk = assemble_macro_graph(macro_shards, output=tmp_path / "macro")
    assert isinstance(on_disk.user_rows, np.memmap)
    assert_same_macro_graph(MacroGraph.load(tmp_path / "macro", verify=True), expected)
    on_disk.check(**expected.manifest)


def test_both_versions_of_a_log_with_a_history(old):
    expected = build_macro_graph(old.train, old.encoder, OLD_CONFIG, history=old.history)
    assert expected.num_versions == 2
    received = assemble_macro_graph(old.macro, history=old.old_macro)
    assert received.manifest == expected.manifest
    assert_same_macro_graph(received, expected)
    # The versions differ, and version 0 alone is the first of them.
    for name in ("user_groups", "item_groups", "user_rows", "recent_items"):
        first, second = getattr(expected, name)
        assert np.any(first != second), name
    assert_same_macro_graph(assemble_macro_graph(old.macro), expected.scored_version())


def test_history_that_does_not_go_with_the_graph(old, macro_shards, tmp_path):
    with pytest.raises(ValueError, match="expected a macro graph of all rows; received one of"):
        assemble_macro_graph(old.old_macro)
    with pytest.raises(ValueError, match="for a macro graph of counting: out_of_fold, whose"):
        assemble_macro_graph(macro_shards, history=old.old_macro)
    with pytest.raises(ValueError, match="of the history alone; received one with the training"):
        assemble_macro_graph(old.macro, history=old.macro)
    document = read_document(old.old_macro, "macro.json")
    write_document(str(tmp_path), "macro.json", document | {"groups": "others"})
    with pytest.raises(ValueError, match="received others: name that one's folder as groups"):
        assemble_macro_graph(old.macro, history=str(tmp_path))


def test_job_that_has_not_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"macro\.json is missing"):
        assemble_macro_graph(str(tmp_path))


def test_something_else_where_the_macro_graph_shall_be(macro_shards, tmp_path):
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(FileExistsError, match=r"holds no manifest\.json"):
        assemble_macro_graph(macro_shards, output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
