import numpy as np
import pytest

from tests.graph.macro_logs import counts, one_hot, random_stores
from tfmtl.graph import MacroConfig, MacroGraph, interaction_stores, macro_graph_of_stores
from tfmtl.graph.macro_graph import ARRAYS
from tfmtl.graph.recent_neighbors import recent_neighbors

SCORES = np.array([0, 1, 2, 2.5], np.float32)
CONFIG = MacroConfig(user_nodes=3, item_nodes=4, recent=5)


def assert_equal_graphs(one, two):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    assert (one.num_tasks, one.num_user_nodes, one.num_item_nodes) == (
        two.num_tasks,
        two.num_user_nodes,
        two.num_item_nodes,
    )


def test_versions_are_tables_and_groups_of_their_own_stores():
    whole, bits = random_stores(1, 20, 15, 90, times=30)
    some, some_bits = random_stores(2, 20, 15, 30)
    graph = macro_graph_of_stores(whole, SCORES, CONFIG, partial=[lambda: some, lambda: whole])
    assert graph.num_versions == 3
    np.testing.assert_array_equal(graph.user_groups[2], graph.user_groups[0])
    assert (graph.user_groups[1] != graph.user_groups[0]).any()
    for version, of_version in enumerate([bits, some_bits, bits]):
        c_u, c_i = one_hot(graph.user_groups[version], 3), one_hot(graph.item_groups[version], 4)
        for task in range(2):
            a = (of_version >> task & 1).astype(int)
            first = 5 + 4 + task * 5
            received = counts(graph.user_rows[version, :, first : first + 5])
            np.testing.assert_array_equal(received.round(), a @ c_i)
            first = 4 + 5 + task * 4
            received = counts(graph.item_rows[version, :, first : first + 4])
            np.testing.assert_array_equal(received.round(), a.T @ c_u)
    for version, stores in enumerate([whole, some, whole]):
        ((items, behaviors),) = recent_neighbors(stores[0], SCORES, 5)
        np.testing.assert_array_equal(graph.recent_items[version], items)
        np.testing.assert_array_equal(graph.recent_item_behaviors[version], behaviors)
        ((users, behaviors),) = recent_neighbors(stores[1], SCORES, 5)
        np.testing.assert_array_equal(graph.recent_users[version], users)
        np.testing.assert_array_equal(graph.recent_user_behaviors[version], behaviors)


def test_a_folder_holds_what_memory_does(tmp_path):
    whole, _ = random_stores(3, 30, 20, 140)
    some, _ = random_stores(4, 30, 20, 60)
    options = {"partial": [lambda: some], "manifest": {"split_fingerprint": "s1"}}
    in_memory = macro_graph_of_stores(whole, SCORES, CONFIG, **options)
    on_disk = macro_graph_of_stores(whole, SCORES, CONFIG, folder=tmp_path / "macro", **options)
    assert_equal_graphs(in_memory, on_disk)
    assert isinstance(on_disk.user_rows, np.memmap)
    assert not isinstance(in_memory.user_rows, np.memmap)
    assert on_disk.manifest["split_fingerprint"] == "s1"
    assert_equal_graphs(MacroGraph.load(tmp_path / "macro", verify=True), in_memory)
    in_memory.save(tmp_path / "saved")
    for name in ARRAYS:
        one, two = (tmp_path / folder / f"{name}.npy" for folder in ("macro", "saved"))
        assert one.read_bytes() == two.read_bytes()


def test_a_crash_in_the_middle_leaves_the_old_folder(tmp_path):
    whole, _ = random_stores(3, 30, 20, 140)
    folder = tmp_path / "macro"
    old = macro_graph_of_stores(whole, SCORES, CONFIG, folder=folder)

    def lost():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        macro_graph_of_stores(whole, SCORES, CONFIG, partial=[lost], folder=folder)
    assert_equal_graphs(MacroGraph.load(folder, verify=True), old)
    assert [path.name for path in tmp_path.iterdir()] == ["macro"]


def test_a_folder_of_something_else_is_refused_before_the_work(tmp_path):
    (tmp_path / "thesis.tex").touch()
    # Grouping would fail too, but later: nobody is active.
    empty, _ = random_stores(0, 5, 4, 0)
    with pytest.raises(FileExistsError, match=r"holds no manifest\.json"):
        macro_graph_of_stores(empty, SCORES, CONFIG, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_inactive_neighbours_alone_make_a_row_of_zeros_in_the_first_hop():
    # Item 3 has one click, below the threshold of 2, and is all that user 3 has.
    stores = interaction_stores(
        np.array([1, 2, 1, 2, 3]),
        np.array([1, 1, 2, 2, 3]),
        np.array([1, 1, 1, 1, 1], np.uint8),
        4,
        4,
    )
    config = MacroConfig(
        user_nodes=1, item_nodes=2, activity="value", item_threshold=2, user_threshold=1
    )
    graph = macro_graph_of_stores(stores, SCORES, config)
    user = graph.user_rows[0, 3]
    assert user[:3].tolist() == [0, 0, 0]
    # The path user 3, item 3, user 3 ends at an active node, and the click is a preference.
    assert counts(user[3:5]).round(1).tolist() == [0, 1]
    assert counts(user[5:8]).sum().round(1) == 1
    for rows in (graph.user_rows, graph.item_rows):
        assert np.isfinite(rows).all()


def test_an_empty_cluster_is_a_column_of_zeros():
    stores = interaction_stores(
        np.array([1, 2, 3]), np.array([1, 1, 1]), np.array([3, 3, 3], np.uint8), 4, 2
    )
    config = MacroConfig(user_nodes=3, item_nodes=1)
    graph = macro_graph_of_stores(stores, SCORES, config)
    (number,) = set(graph.user_groups[0, 1:].tolist())
    assert (graph.num_user_nodes, graph.user_groups[0, 0]) == (3, 0)
    # First hop and two tasks of the item, four columns each, are of users.
    first, *of_tasks = (graph.item_rows[0, 1, start : start + 4] for start in (0, 6, 10))
    for columns in (first, *of_tasks, graph.user_rows[0, 1, 2:6]):
        assert np.flatnonzero(columns).tolist() == [number]


def test_the_fewest_bits_hold_the_behaviors():
    stores = interaction_stores(
        np.array([1, 2]), np.array([1, 2]), np.array([1, 256], np.uint16), 3, 3
    )
    config = MacroConfig(user_nodes=1, item_nodes=1, recent=1)
    graph = macro_graph_of_stores(stores, np.arange(512, dtype=np.float32), config)
    assert graph.num_tasks == 9
    assert graph.recent_item_behaviors.dtype == np.uint16
    assert graph.recent_item_behaviors[0].tolist() == [[0], [1], [256]]


def test_refuses_scores_that_are_not_of_all_combinations():
    stores, _ = random_stores(1, 20, 15, 90)
    with pytest.raises(ValueError, match="received 2 scores and a combination numbered 3: take"):
        macro_graph_of_stores(stores, SCORES[:2], CONFIG)
    with pytest.raises(ValueError, match=r"2\^T of them; received 6 scores"):
        macro_graph_of_stores(stores, np.ones(6, np.float32), CONFIG)


def test_progress_bars_leave_the_result_alone(capsys):
    stores, _ = random_stores(1, 20, 15, 90)
    quiet = macro_graph_of_stores(stores, SCORES, CONFIG)
    assert capsys.readouterr().out == ""
    assert_equal_graphs(quiet, macro_graph_of_stores(stores, SCORES, CONFIG, progress=True))
    assert "Sketching neighbourhoods" in capsys.readouterr().out
