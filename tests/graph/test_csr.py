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
    with pytest.raises(ValueError, match="expected indptr of dtype int64"):
        CSR(indptr.astype(np.int32), indices, 4)
    with pytest.raises(ValueError, match="expected indices of dtype int32"):
        CSR(indptr, indices.astype(np.int64), 4)
    with pytest.raises(ValueError, match=r"edge data 'weight' of shape \[1\]"):
        CSR(indptr, indices, 4, {"weight": np.zeros(2)})
    with pytest.raises(ValueError, match=r"expected columns in \[0, 4\); received \[7, 7\]"):
        CSR.from_edges(np.array([0]), np.array([7]), 2, 4)
    with pytest.raises(ValueError, match="row 1: expected strictly ascending columns"):
        CSR.from_edges(np.array([1, 1]), np.array([2, 2]), 2, 4)
