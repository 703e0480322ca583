import numpy as np
import pytest

from tests.graph.macro_logs import random_stores
from tfmtl.graph import CSR
from tfmtl.graph.recent_neighbors import recent_neighbors

SCORES = np.array([0, 1, 2, 2, 3, 4, 5, 5], np.float32)


def joined(*args, **options):
    neighbors, behaviors = zip(*recent_neighbors(*args, **options), strict=True)
    return np.concatenate(neighbors), np.concatenate(behaviors)


def sorted_neighbors(edges, most):
    """A plain sort: later first, then of a higher score, then of a lower number."""
    behaviors = edges.data["behavior"]
    times = edges.data.get("time", np.zeros(edges.num_edges, int))
    for row in range(edges.num_rows):
        begin, end = edges.indptr[row : row + 2]
        kept = sorted(
            range(begin, end), key=lambda e: (-times[e], -SCORES[behaviors[e]], edges.indices[e])
        )[:most]
        padding = [0] * (most - len(kept))
        yield (
            [*edges.indices[kept].tolist(), *padding],
            [*behaviors[kept].tolist(), *padding],
        )


# Times below 5 tie often; the degrees of 40 users are around 17, of 25 items around 28.
@pytest.mark.parametrize("times", [None, 5, 10**6])
@pytest.mark.parametrize("most", [1, 4, 20, 60])
def test_equals_a_plain_sort(times, most):
    stores, _ = random_stores(3, 40, 25, 1200, tasks=3, times=times)
    for edges in stores:
        assert ("time" in edges.data) == (times is not None)
        neighbors, behaviors = joined(edges, SCORES, most)
        expected = list(sorted_neighbors(edges, most))
        assert neighbors.tolist() == [row for row, _ in expected]
        assert behaviors.tolist() == [row for _, row in expected]
        assert neighbors.dtype == np.int32
        assert behaviors.dtype == np.uint8


def test_by_hand():
    # Row 1 meets 2 at 5, 3 at 9, 4 at 5 with a stronger behaviour, 6 at 5 with that of 2.
    data = {
        "behavior": np.array([1, 1, 4, 1], np.uint8),
        "time": np.array([5, 9, 5, 5]),
    }
    edges = CSR.from_edges(np.ones(4, int), np.array([2, 3, 4, 6]), 2, 7, data)
    neighbors, behaviors = joined(edges, SCORES, 5)
    assert neighbors.tolist() == [[0] * 5, [3, 4, 2, 6, 0]]
    assert behaviors.tolist() == [[0] * 5, [1, 4, 1, 1, 0]]
    untimed = CSR(edges.indptr, edges.indices, 7, {"behavior": data["behavior"]})
    assert joined(untimed, SCORES, 3)[0][1].tolist() == [4, 2, 3]


def test_negative_times_are_times():
    data = {"behavior": np.ones(2, np.uint8), "time": np.array([-9, -3])}
    edges = CSR.from_edges(np.ones(2, int), np.array([1, 2]), 2, 3, data)
    assert joined(edges, SCORES, 2)[0][1].tolist() == [2, 1]


def test_rows_of_many_blocks_stay_in_order(capsys):
    # 20,000 rows make more than one block of 16,384; row r meets r mod 7 + 1 alone.
    count = 20_000
    columns = np.arange(count) % 7 + 1
    data = {"behavior": np.ones(count, np.uint16)}
    edges = CSR.from_edges(np.arange(count), columns, count, 8, data)
    neighbors, behaviors = joined(edges, SCORES, 1, progress=True)
    np.testing.assert_array_equal(neighbors[:, 0], columns)
    assert behaviors.dtype == np.uint16
    assert "Recent neighbours" in capsys.readouterr().out
