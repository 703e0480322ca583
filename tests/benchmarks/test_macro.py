import numpy as np
import pytest

from benchmarks.macro.growths import build_growths, call_growth
from benchmarks.macro.simulated_log import (
    COLUMNS,
    FIRST_TIME,
    num_items,
    num_users,
    write_log,
)

ROWS = 50_000


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    write_log(ROWS, folder)
    return {name: np.load(folder / f"{name}.npy") for name in COLUMNS}


def test_ids_start_at_1_and_stay_within_the_numbers_of_users_and_items(log):
    assert (num_users(ROWS), num_items(ROWS)) == (2501, 501)
    assert (log["users"].min(), log["items"].min()) == (1, 1)
    assert log["users"].max() < 2501
    assert log["items"].max() < 501


def test_rows_ascend_in_time(log):
    np.testing.assert_array_equal(log["times"], np.arange(FIRST_TIME, FIRST_TIME + ROWS))


def test_behaviors_are_a_chain_of_click_like_and_purchase(log):
    shares = np.bincount(log["behaviors"], minlength=8) / ROWS
    # 0.7 click alone, 0.3 x 0.7 like too, 0.3 x 0.3 purchase too.
    expected = [0, 0.7, 0, 0.21, 0, 0, 0, 0.09]
    np.testing.assert_allclose(shares, expected, atol=0.01)


def test_few_users_and_items_have_many_rows(log):
    def share_of_first_hundredth(ids):
        counts = np.sort(np.bincount(ids)[1:])[::-1]
        return counts[: len(counts) // 100].sum() / ROWS

    # Ranks 0 to 24 of 2500 users of density (r + 10)^-0.5:
    # (35^0.5 - 10^0.5) / (2510^0.5 - 10^0.5) = 0.0587, six times their share of the users.
    assert share_of_first_hundredth(log["users"]) == pytest.approx(0.0587, abs=0.003)
    # Topics spread a frequent item's rows over the 50 items of like rank.
    assert share_of_first_hundredth(log["items"]) > 0.04


def test_a_users_items_are_mostly_of_one_topic(log):
    active = np.bincount(log["users"]).argmax()
    items = log["items"][log["users"] == active]
    # Of 500 items in 50 topics a user favours 10; drawn by chance, most users would have no item
    # more than a few times.
    counts = np.sort(np.bincount(items))[::-1]
    assert counts[:10].sum() > 0.6 * len(items)


def test_build_growths_are_of_the_time_per_edge():
    sizes = {
        1000: {"build_s_per_million_edges": 8.0},
        10: {"build_s_per_million_edges": 2.0},
        100: {"build_s_per_million_edges": 5.0},
    }
    assert build_growths(sizes) == {"build_growth": 4.0, "build_growth_of_last": 1.6}


def test_build_growths_of_one_size_are_1():
    sizes = {10: {"build_s_per_million_edges": 2.0}}
    assert build_growths(sizes) == {"build_growth": 1.0, "build_growth_of_last": 1.0}


def test_call_growth_compares_the_ends_within_a_round_and_takes_the_median():
    # Ratios 3, 1.1 and 1.2; medians of the sides would give 22 / 20 = 1.1.
    rounds = [
        {10: 10.0, 100: 99.0, 1000: 30.0},
        {10: 20.0, 100: 1.0, 1000: 22.0},
        {10: 20.0, 100: 1.0, 1000: 24.0},
    ]
    assert call_growth(rounds) == 1.2
