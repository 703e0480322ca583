import numpy as np
import pytest

from tfmtl.graph.time_limits import time_limits


def limits_of(times, granularity=0):
    limits, of_row = time_limits(np.array(times), len(times), granularity)
    assert limits.dtype == np.int64
    assert of_row.dtype == np.int32
    assert np.all(np.diff(limits) > 0)
    return limits[of_row].tolist()


def test_equal_times_share_a_limit():
    limits, of_row = time_limits(np.array([5, 3, 5]), 3)
    assert (limits.tolist(), of_row.tolist()) == ([3, 5], [1, 0, 1])


def test_an_edge_is_before_the_limit_exactly_where_it_is_before_the_time():
    # 7 < 7.5 and 8 > 7.5: edges up to 7 are earlier, which are those before 8.
    assert limits_of([7.5, 7.0, -7.5]) == [8, 7, -7]


def test_times_stay_exact():
    assert limits_of([2**53 + 1, 2**53]) == [2**53 + 1, 2**53]
    assert limits_of([2**53 + 1], granularity=2) == [2**53]


def test_limits_are_floored_to_periods():
    assert limits_of([59, 60, 61, 125, -1], granularity=60) == [0, 60, 60, 120, -60]
    assert limits_of([59.5, 60.0, 61.5], granularity=60) == [0, 60, 60]
    # Periods of 2.5: 7 lies in [5, 7.5) and 8 in [7.5, 10); an edge at 7 is before 7.5.
    assert limits_of([7, 8], granularity=2.5) == [5, 8]


@pytest.mark.parametrize(
    ("times", "match"),
    [
        (np.array([1]), r"numbers of shape \[2\], one per row; received int64 \[1\]"),
        (np.array(["a", "b"]), r"received <U1 \[2\]"),
        (np.array([1, np.nan]), "expected finite times; received nan"),
    ],
)
def test_refuses_times_that_are_none(times, match):
    with pytest.raises(ValueError, match=match):
        time_limits(times, 2)
