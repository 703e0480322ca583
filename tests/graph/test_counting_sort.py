import numpy as np
import pytest

from tfmtl.graph.counting_sort import gathered, offset_dtype, sorted_edges, transposed_edges


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_sort_of_64_bit_keys(seed):
    rng = np.random.default_rng(seed)
    num_rows, num_columns, num_edges = rng.integers(1, 60, 3)
    rows, columns = rng.integers(0, num_rows, num_edges), rng.integers(0, num_columns, num_edges)
    indptr, order = sorted_edges(rows, columns, num_rows, num_columns)
    # Repeated edges must stay in their order: both sorts are stable.
    expected = np.argsort(rows * num_columns + columns, kind="stable")
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(np.diff(indptr), np.bincount(rows, minlength=num_rows))
    assert indptr.dtype == order.dtype == np.int32

    starts, sources, places = transposed_edges(
        indptr, columns[order].astype(np.int32), int(num_columns)
    )
    back = np.lexsort((rows[order], columns[order]))
    np.testing.assert_array_equal(places, back)
    np.testing.assert_array_equal(sources, rows[order][back])
    np.testing.assert_array_equal(np.diff(starts), np.bincount(columns, minlength=num_columns))


@pytest.mark.parametrize("seed", range(5))
def test_rows_by_time_equal_a_lexical_sort(seed):
    rng = np.random.default_rng(seed)
    rows, columns, times = rng.integers(0, [[7], [9], [12]], (3, 200))
    indptr, order = sorted_edges(rows, columns, 7, 9, times)
    np.testing.assert_array_equal(order, np.lexsort((columns, times, rows)))
    sources = columns[order].astype(np.int32)
    _, sources, places = transposed_edges(indptr, sources, 9, times[order])
    back = np.lexsort((rows[order], times[order], columns[order]))
    np.testing.assert_array_equal(places, back)
    np.testing.assert_array_equal(sources, rows[order][back])


def test_no_edges():
    none = np.zeros(0, np.int32)
    indptr, order = sorted_edges(none, none, 3, 2)
    assert (indptr.tolist(), order.tolist()) == ([0, 0, 0, 0], [])
    assert transposed_edges(indptr, none, 2)[0].tolist() == [0, 0, 0]


def test_edge_numbers_widen_where_32_bits_end():
    assert offset_dtype(2**31 - 1) == np.int32
    assert offset_dtype(2**31) == np.int64


def test_gathers_in_any_dtype():
    order = np.array([2, 0, 2], np.int32)
    for dtype in (np.uint8, np.float32, np.int64):
        result = gathered(np.array([7, 8, 9], dtype), order)
        assert result.dtype == dtype
        assert result.tolist() == [9, 7, 9]


def test_names_ids_out_of_range():
    with pytest.raises(ValueError, match=r"expected rows in \[0, 2\); received \[1, 5\]"):
        sorted_edges(np.array([1, 5]), np.array([0, 0]), 2, 2)
    with pytest.raises(ValueError, match=r"expected columns in \[0, 2\); received \[-1, 0\]"):
        sorted_edges(np.array([1, 1]), np.array([0, -1]), 2, 2)
