import numpy as np
import pytest

from tests.graph.macro_logs import counts, one_hot, random_stores
from tfmtl.graph.macro_tables import MacroSide, MacroTables

SCORES = np.array([0, 0.93, 1.76, 2.5], np.float32)


def sides(stores, seed, user_groups, item_groups):
    rng = np.random.default_rng(seed)
    item_user, user_item = stores
    made = []
    for edges, count in ((item_user, user_groups), (user_item, item_groups)):
        groups = rng.integers(0, count + 1, edges.num_rows).astype(np.int32)
        weights = rng.choice([0, 0.25, 1], edges.num_rows).astype(np.float32)
        made.append(MacroSide(edges, groups, weights, count))
    return made


def dense_tables(bits, users, items, scores, num_tasks):
    """The products as they are written, of dense matrices."""
    s = scores[bits].astype(float)
    c_u, c_i = one_hot(users.groups, users.num_groups), one_hot(items.groups, items.num_groups)
    w_u, w_i = users.weights[:, np.newaxis], items.weights[:, np.newaxis]
    of_tasks = [(bits >> task & 1).astype(float) for task in range(num_tasks)]
    user_rows = [s @ (w_i * c_i), s @ (s.T @ (w_u * c_u)), *(a @ c_i for a in of_tasks)]
    item_rows = [s.T @ (w_u * c_u), s.T @ (s @ (w_i * c_i)), *(a.T @ c_u for a in of_tasks)]
    return np.concatenate(user_rows, axis=1), np.concatenate(item_rows, axis=1)


def assert_logarithms(blocks, expected):
    rows = np.concatenate([*blocks])
    assert rows.dtype == np.float16
    # Half precision keeps 11 bits.
    np.testing.assert_allclose(rows.astype(float), np.log1p(expected), rtol=2**-10, atol=1e-4)


# 4,500 rows make two blocks; 60 macro nodes are more than most nodes have neighbours.
@pytest.mark.parametrize(
    ("users", "items", "rows", "user_groups", "item_groups"),
    [(30, 20, 150, 4, 3), (30, 20, 580, 1, 60), (4500, 40, 20_000, 5, 7), (12, 4500, 9000, 60, 2)],
)
def test_equals_dense_products(users, items, rows, user_groups, item_groups):
    stores, bits = random_stores(1, users, items, rows)
    of_users, of_items = sides(stores, 2, user_groups, item_groups)
    tables = MacroTables(of_users, of_items, SCORES, 2)
    user_rows, item_rows = dense_tables(bits, of_users, of_items, SCORES, 2)
    assert_logarithms(tables.user_rows(), user_rows)
    assert_logarithms(tables.item_rows(), item_rows)


def test_macgnn_is_the_case_of_ones():
    """S = A and W = 1: integers, as its released code counts them."""
    stores, bits = random_stores(5, 25, 18, 120, tasks=1)
    of_users, of_items = (
        MacroSide(side.edges, side.groups, np.ones_like(side.weights), side.num_groups)
        for side in sides(stores, 6, 3, 4)
    )
    a = bits.astype(int)
    c_u, c_i = one_hot(of_users.groups, 3).astype(int), one_hot(of_items.groups, 4).astype(int)
    tables = MacroTables(of_users, of_items, np.array([0, 1], np.float32), 1)
    users, items = (
        counts(np.concatenate([*rows])) for rows in (tables.user_rows(), tables.item_rows())
    )
    expected_users = np.concatenate([a @ c_i, a @ (a.T @ c_u), a @ c_i], axis=1)
    expected_items = np.concatenate([a.T @ c_u, a.T @ (a @ c_i), a.T @ c_u], axis=1)
    assert expected_users.max() < 100
    np.testing.assert_array_equal(users.round(), expected_users)
    np.testing.assert_array_equal(items.round(), expected_items)


def test_a_graph_without_edges_has_tables_of_zeros():
    stores, _ = random_stores(0, 5, 4, 0)
    of_users, of_items = sides(stores, 0, 2, 3)
    tables = MacroTables(of_users, of_items, SCORES, 2)
    (users,), (items,) = tables.user_rows(), tables.item_rows()
    assert users.shape == (5, 4 + 3 + 2 * 4)
    assert items.shape == (4, 3 + 4 + 2 * 3)
    assert not users.any()
    assert not items.any()


def test_rows_can_be_read_again_and_show_progress(capsys):
    stores, _ = random_stores(2, 9, 8, 20)
    tables = MacroTables(*sides(stores, 1, 2, 2), SCORES, 2, progress=True)
    (first,), (again,) = tables.user_rows(), tables.user_rows()
    np.testing.assert_array_equal(first, again)
    printed = capsys.readouterr().out
    assert "First hop" in printed
    assert "Macro neighbours" in printed
