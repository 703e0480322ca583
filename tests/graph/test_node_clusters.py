import numpy as np
import pytest

from tfmtl.graph import node_clusters
from tfmtl.graph.node_clusters import fit_centers, member_centers, nearest_centers


class Given:
    """Rows that are there, and which of them were asked for."""

    def __init__(self, rows):
        self.rows = np.array(rows, np.float32)
        self.taken = []

    def take(self, nodes):
        self.taken += nodes.tolist()
        return self.rows[nodes]


def test_inactive_nodes_do_not_move_a_centre_and_are_assigned():
    # Of the upper cluster only [0, 2] is active, of the right one [3, 0]; [4, 3] lies right.
    rows = Given([[0, 2], [3, 0], [4, 3], [3, 4]])
    centers = fit_centers(rows, np.array([1, 1, 0, 0], np.float32), 2)
    np.testing.assert_allclose(np.sort(centers, axis=0), [[0, 0], [1, 1]], atol=1e-6)
    assert set(rows.taken) == {0, 1}
    numbers = nearest_centers(rows, centers, np.ones(4, bool))
    assert numbers[2] == numbers[1] != numbers[0] == numbers[3]
    assert sorted(set(numbers.tolist())) == [1, 2]
    assert numbers.dtype == np.int32


def test_weights_draw_a_centre():
    rows = Given([[1, 0], [0, 1]])
    (even,) = fit_centers(rows, np.ones(2, np.float32), 1)
    (drawn,) = fit_centers(rows, np.array([1, 0.05], np.float32), 1)
    assert drawn[0] > even[0]
    assert drawn[1] < even[1]


def test_the_length_of_a_row_does_not_count():
    short = fit_centers(Given([[1, 0], [0, 1], [2, 2]]), np.ones(3, np.float32), 2, seed=3)
    long = fit_centers(Given([[9, 0], [0, 0.1], [1, 1]]), np.ones(3, np.float32), 2, seed=3)
    np.testing.assert_allclose(short, long, atol=1e-6)


def test_a_sample_of_the_active_nodes_places_the_centres(monkeypatch):
    monkeypatch.setattr(node_clusters, "_FEWEST_FITTED_ROWS", 7)
    monkeypatch.setattr(node_clusters, "_FITTED_ROWS_PER_CLUSTER", 5)
    rows = Given(np.repeat([[1, 0], [0, 1]], 50, axis=0))
    weights = np.tile(np.array([1, 0], np.float32), 50)
    fit_centers(rows, weights, 2, seed=1)
    # max(7, 5 * 2) of the 50 active ones, none twice.
    assert len(rows.taken) == len(set(rows.taken)) == 10
    assert all(weights[rows.taken] == 1)


def test_as_many_clusters_as_active_nodes_is_the_most():
    rows = Given([[1, 0], [0, 1], [1, 1]])
    weights = np.array([1, 1, 0], np.float32)
    assert fit_centers(rows, weights, 2).shape == (2, 2)
    with pytest.raises(
        ValueError,
        match=r"active items as macro nodes; received 2 active items for 3 macro nodes: lower the",
    ):
        fit_centers(rows, weights, 3, noun="items")


@pytest.mark.parametrize("num_rows", [30, 20_000])
def test_every_linked_node_joins_the_nearest_centre(num_rows, capsys):
    # 20,000 rows make more than one block of 16,384.
    rng = np.random.default_rng(2)
    rows = Given(rng.normal(size=(num_rows, 4)))
    centers = rng.normal(size=(6, 4)).astype(np.float32)
    linked = rng.random(num_rows) < 0.8
    numbers = nearest_centers(rows, centers, linked, progress=True)
    unit = rows.rows / np.linalg.norm(rows.rows, axis=1, keepdims=True)
    nearest = np.linalg.norm(unit[:, None] - centers, axis=2).argmin(1)
    np.testing.assert_array_equal(numbers, np.where(linked, nearest + 1, 0))
    assert "Grouping nodes" in capsys.readouterr().out


def test_an_empty_cluster_keeps_its_number():
    centers = np.array([[1, 0], [-5, -5], [0, 1]], np.float32)
    numbers = nearest_centers(Given([[2, 1], [1, 2]]), centers, np.ones(2, bool))
    assert numbers.tolist() == [1, 3]


def test_centres_of_given_groups_are_weighted_means_of_unit_rows():
    rows = Given([[5, 0], [0, 2], [3, 4], [0, 7], [9, 9]])
    groups = np.array([1, 1, 3, 2, 0], np.int32)
    weights = np.array([1, 0.25, 1, 0, 1], np.float32)
    centers = member_centers(rows, groups, weights, 4)
    # (1 [1, 0] + 1/4 [0, 1]) / (5/4); group 2 has no active member and group 4 none at all; the
    # node of no group counts nowhere.
    np.testing.assert_allclose(centers[[0, 2]], [[0.8, 0.2], [0.6, 0.8]], rtol=1e-6)
    assert np.isnan(centers[[1, 3]]).all()
    assert centers.dtype == np.float32


def test_a_group_without_a_centre_is_nobodys_nearest():
    centers = np.array([[np.nan, np.nan], [-1, 0], [np.nan, np.nan]], np.float32)
    assert nearest_centers(Given([[1, 0]]), centers, np.ones(1, bool)).tolist() == [2]


def test_without_members_there_are_no_centres():
    centers = member_centers(Given([[1, 0, 0]]), np.zeros(1, np.int32), np.ones(1, np.float32), 2)
    assert centers.shape == (2, 3)
    assert np.isnan(centers).all()
