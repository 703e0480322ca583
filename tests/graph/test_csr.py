import numpy as np
import pytest

from tfmtl.graph import CSR


@pytest.fixture
def store():
    # Row 0: 2; row 1: none; row 2: 0, 1, 3.
    return CSR.from_edges(
        np.array([2, 0, 2, 2]),
        np.array([3, 2, 0, 1]),
        3,
        4,
        {"weight": np.array([0.5, 1.5, 2.5, 3.5], np.float32)},
    )


def test_sorts_edges_into_rows(store):
    assert store.indptr.tolist() == [0, 1, 1, 4]
    assert store.indices.tolist() == [2, 0, 1, 3]
    assert store.data["weight"].tolist() == [1.5, 2.5, 3.5, 0.5]
    assert (store.num_rows, store.num_columns, store.num_edges) == (3, 4, 4)
    assert store.degrees.tolist() == [1, 0, 3]
    assert store.indices.dtype == np.int32


def test_transpose_moves_data_along(store):
    other = store.transpose()
    # Column 0 and 1: row 2; column 2: row 0; column 3: row 2.
    assert other.indptr.tolist() == [0, 1, 2, 3, 4]
    assert other.indices.tolist() == [2, 2, 0, 2]
    assert other.data["weight"].tolist() == [2.5, 3.5, 1.5, 0.5]
    assert other.num_columns == 3
    again = other.transpose()
    assert again.indices.tolist() == store.indices.tolist()
    assert again.data["weight"].tolist() == store.data["weight"].tolist()


@pytest.mark.parametrize("mmap", [True, False])
def test_round_trip(store, tmp_path, mmap):
    store.save(tmp_path / "store")
    loaded = CSR.load(tmp_path / "store", mmap=mmap)
    assert isinstance(loaded.indices, np.memmap) == mmap
    assert loaded.indptr.tolist() == store.indptr.tolist()
    assert loaded.data["weight"].tolist() == store.data["weight"].tolist()
    assert loaded.num_columns == 4
    assert loaded.transpose().indices.tolist() == store.transpose().indices.tolist()


def test_round_trip_without_edges(tmp_path):
    empty = CSR.from_edges(np.zeros(0, int), np.zeros(0, int), 3, 4)
    empty.save(tmp_path / "empty")
    loaded = CSR.load(tmp_path / "empty")
    assert loaded.degrees.tolist() == [0, 0, 0]
    assert loaded.transpose().degrees.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("indptr", "indices", "match"),
    [
        ([0, 2, 1, 2], [0, 1], "row 1: expected an indptr that never decreases"),
        ([0, 9, 1, 2], [0, 1], "row 0: expected an indptr that never decreases"),
        ([0, 1, 2], [0, 4], r"row 1: expected columns in \[0, 4\)"),
        ([0, 1, 2], [-1, 2], r"row 0: expected columns in \[0, 4\)"),
        ([0, 0, 2], [2, 1], "row 1: expected strictly ascending columns"),
        ([0, 0, 2], [1, 1], "row 1: expected strictly ascending columns"),
        ([0, 1], [1, 2], r"expected indptr from 0 to 2 .*; received 0 to 1"),
    ],
)
def test_refuses_damaged_rows(indptr, indices, match):
    with pytest.raises(ValueError, match=match):
        CSR(np.array(indptr, np.int64), np.array(indices, np.int32), 4)


def test_refuses_wrong_dtypes_and_lengths():
    indptr, indices = np.array([0, 1], np.int64), np.array([1], np.int32)
    with pytest.raises(ValueError, match="expected indptr of dtype int32 or int64"):
        CSR(indptr.astype(np.uint64), indices, 4)
    with pytest.raises(ValueError, match="expected order='column' or 'time'; received 'degree'"):
        CSR(indptr, indices, 4, order="degree")
    with pytest.raises(ValueError, match="expected indices of dtype int32"):
        CSR(indptr, indices.astype(np.int64), 4)
    with pytest.raises(ValueError, match=r"edge data 'weight' of shape \[1\]"):
        CSR(indptr, indices, 4, {"weight": np.zeros(2)})
    with pytest.raises(ValueError, match=r"expected columns in \[0, 4\); received \[7, 7\]"):
        CSR.from_edges(np.array([0]), np.array([7]), 2, 4)
    with pytest.raises(ValueError, match="row 1: expected strictly ascending columns"):
        CSR.from_edges(np.array([1, 1]), np.array([2, 2]), 2, 4)


def test_row_pointers_take_32_bits_in_memory_and_on_disk(tmp_path):
    wide = CSR(np.array([0, 2], np.int64), np.array([1, 3], np.int32), 4)
    assert wide.indptr.dtype == np.int32
    wide.save(tmp_path / "store")
    loaded = CSR.load(tmp_path / "store")
    assert loaded.indptr.dtype == np.int32
    assert loaded.transpose().indptr.dtype == np.int32
    assert loaded.degrees.dtype == np.int64


# Edges (row, column, time); row 1 meets column 2 twice, and column 0 at the same time as column 2.
TIMED = np.array([(1, 2, 30), (1, 2, 10), (0, 1, 5), (1, 0, 30), (1, 1, 20), (0, 0, 7)])


@pytest.fixture
def timed():
    rows, columns, times = TIMED.T
    data = {"time": times.astype(np.int32), "behavior": np.arange(6, dtype=np.uint8)}
    return CSR.from_edges(rows, columns, 2, 3, data, order="time")


def test_rows_in_the_order_of_time_keep_repeated_pairs(timed, tmp_path):
    assert timed.indptr.tolist() == [0, 2, 6]
    assert timed.data["time"].tolist() == [5, 7, 10, 20, 30, 30]
    # At time 30 the lower column comes first.
    assert timed.indices.tolist() == [1, 0, 2, 1, 0, 2]
    assert timed.data["behavior"].tolist() == [2, 5, 1, 4, 3, 0]
    timed.save(tmp_path / "store")
    loaded = CSR.load(tmp_path / "store")
    assert loaded.order == "time"
    loaded.validate()


def test_the_transpose_in_the_order_of_time_is_sorted_by_time_too(timed):
    other = timed.transpose()
    assert other.order == "time"
    # Column 0: row 0 at 7, row 1 at 30; column 1: row 0 at 5, row 1 at 20; column 2: row 1 twice.
    assert other.indptr.tolist() == [0, 2, 4, 6]
    assert other.indices.tolist() == [0, 1, 0, 1, 1, 1]
    assert other.data["time"].tolist() == [7, 30, 5, 20, 10, 30]
    assert other.data["behavior"].tolist() == [5, 3, 2, 4, 1, 0]
    late_first = CSR.from_edges(
        np.array([0, 1]), np.array([0, 0]), 2, 1, {"time": np.array([9, 3])}, order="time"
    ).transpose()
    assert late_first.indices.tolist() == [1, 0]
    assert late_first.data["time"].tolist() == [3, 9]


def test_the_order_of_time_is_checked():
    indptr, indices = np.array([0, 2]), np.array([1, 0], np.int32)
    CSR(indptr, indices, 2, {"time": np.array([3, 4])}, "time")
    for times in ([4, 3], [3, 3]):
        with pytest.raises(ValueError, match="row 0: expected edges that ascend by time, then by"):
            CSR(indptr, indices, 2, {"time": np.array(times)}, "time")
    with pytest.raises(ValueError, match="row 0: expected columns in"):
        CSR(indptr, indices, 1, {"time": np.array([3, 4])}, "time")
    with pytest.raises(ValueError, match="row 0: expected an indptr that never decreases"):
        CSR(np.array([0, 9, 2]), indices, 2, {"time": np.array([3, 4])}, "time")
    for data in ({}, {"time": np.array([3.0, 4.0])}):
        with pytest.raises(ValueError, match="expected edge data 'time' of dtype int32 or int64"):
            CSR(indptr, indices, 2, data, "time")
    with pytest.raises(ValueError, match=r"expected edge data 'time' to sort by; received \[\]"):
        CSR.from_edges(np.array([0]), np.array([0]), 1, 1, order="time")


def test_repeated_edges_are_refused_and_self_loops_are_edges():
    """A store knows nothing of self-loops: merging and dropping is what its builders do."""
    loops = CSR.from_edges(np.array([1, 0]), np.array([1, 0]), 2, 2)
    assert loops.indices.tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"row 0: .*no edge twice; CSR.from_edges sorts"):
        CSR.from_edges(np.array([0, 0]), np.array([1, 1]), 2, 2)
