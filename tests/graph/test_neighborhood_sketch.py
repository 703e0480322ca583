import numpy as np
import pytest

from tests.graph.macro_logs import random_stores
from tfmtl.graph import CSR, interaction_stores
from tfmtl.graph.neighborhood_sketch import NeighborhoodSketch

SCORES = np.array([0, 1, 2, 4.5], np.float32)
ONE = np.array([0, 1], np.float32)


def distances(rows):
    squares = (rows**2).sum(1)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0))


def ratios(sketch, exact):
    some = np.triu_indices(len(exact), 1)
    before, after = distances(exact)[some], distances(sketch.take(np.arange(len(exact))))[some]
    return after[before > 0] / before[before > 0]


@pytest.mark.parametrize("seed", range(3))
def test_keeps_the_distances_of_rows_of_s_s_transposed(seed):
    (item_user, user_item), dense = random_stores(seed, 150, 120, 1500)
    s = SCORES[dense].astype(float)
    of_users = ratios(NeighborhoodSketch(item_user, user_item, SCORES, 256, seed), s @ s.T)
    of_items = ratios(NeighborhoodSketch(user_item, item_user, SCORES, 256, seed), s.T @ s)
    for found in (of_users, of_items):
        assert found.mean() == pytest.approx(1, abs=0.02)
        # 1 / sqrt(2 k) = 0.044.
        assert 0.02 < found.std() < 0.06


def identity(count):
    """S = 1, of which the sketch is Omega itself."""
    numbers = np.arange(count)
    data = {"behavior": np.ones(count, np.uint8)}
    edges = CSR.from_edges(numbers, numbers, count, count, data)
    return edges, edges.transpose(), ONE


def test_signs_are_even_and_scaled():
    signs = NeighborhoodSketch(*identity(400), 64, 3).take(np.arange(400)) * 8
    assert set(signs.ravel().tolist()) == {-1, 1}
    # 25,600 signs: the mean has the deviation 1 / 160.
    assert abs(signs.mean()) < 4 / 160
    assert np.abs(signs.mean(0)).max() < 4.5 / 20


def test_sources_do_not_share_signs():
    """A generator that steps as the sources are numbered gives each one the next one's signs."""
    signs = NeighborhoodSketch(*identity(300), 128).take(np.arange(300)) > 0
    words = np.packbits(signs.reshape(-1, 32), axis=1)
    assert len(np.unique(words, axis=0)) == 300 * 4


def test_neighbours_of_neighbouring_numbers_do_not_spread_distances():
    """Where nodes of a group have neighbouring numbers, columns must still be independent."""
    blocks = np.repeat([1.0, -1.0, 0.0], 100)
    found = [
        np.linalg.norm(blocks @ NeighborhoodSketch(*identity(300), 256, seed).take(np.arange(300)))
        for seed in range(60)
    ]
    found = np.array(found) / np.linalg.norm(blocks)
    # The deviation of 60 lengths around 0.044 is known to a tenth of it.
    assert found.std() == pytest.approx(512**-0.5, rel=0.35)


def test_a_row_is_the_product_by_hand():
    # User 1 met items 1 (score 2) and 2 (score 1), user 2 met item 2 (score 4.5).
    item_user, user_item = interaction_stores(
        np.array([1, 1, 2]), np.array([1, 2, 2]), np.array([2, 1, 3], np.uint8), 3, 3
    )
    omega = NeighborhoodSketch(*identity(3), 16, 5).take(np.arange(3)).astype(float)
    rows = NeighborhoodSketch(item_user, user_item, SCORES, 16, 5).take(np.array([2, 0, 1]))
    # Item 1 is 2 omega_1, item 2 is omega_1 + 4.5 omega_2.
    # User 2: 4.5 (omega_1 + 4.5 omega_2); user 1: 2 * 2 omega_1 + (omega_1 + 4.5 omega_2).
    expected = [
        4.5 * omega[1] + 20.25 * omega[2],
        np.zeros(16),
        5 * omega[1] + 4.5 * omega[2],
    ]
    np.testing.assert_allclose(rows, expected, rtol=1e-5)


def test_the_seed_makes_the_sketch_and_blocks_do_not(capsys):
    # 20,000 nodes make more than one block of 16,384.
    many = NeighborhoodSketch(*identity(20_000), 8, 4, progress=True)
    assert "Sketching neighbourhoods" in capsys.readouterr().out
    few = NeighborhoodSketch(*identity(50), 8, 4)
    assert many.num_rows == 20_000
    np.testing.assert_array_equal(many.take(np.arange(50)), few.take(np.arange(50)))
    tail = many.take(np.arange(16_380, 20_000))
    assert (np.abs(tail) == np.float32(8**-0.5)).all()
    other = NeighborhoodSketch(*identity(50), 8, 5)
    assert (other.take(np.arange(50)) != few.take(np.arange(50))).any()


@pytest.mark.parametrize("dim", [1, 31, 33])
def test_any_number_of_columns(dim):
    rows = NeighborhoodSketch(*identity(4), dim).take(np.arange(4))
    np.testing.assert_allclose((rows**2).sum(1), np.ones(4), rtol=1e-5)
