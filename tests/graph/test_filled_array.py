import numpy as np
import pytest

from tfmtl.graph.filled_array import FilledArray


@pytest.mark.parametrize("on_disk", [False, True])
def test_rows_fill_the_leading_dimensions_in_order(tmp_path, on_disk):
    path = tmp_path / "rows.npy" if on_disk else None
    array = FilledArray((2, 3, 2), np.float16, path)
    rows = np.arange(12).reshape(6, 2)
    # Blocks need not end where the leading dimension does.
    for block in (rows[:2], rows[2:2], rows[2:5].astype(np.float16), rows[5:]):
        array.extend(block)
    finished = array.finished()
    assert finished.dtype == np.float16
    assert finished.tolist() == rows.reshape(2, 3, 2).tolist()
    assert isinstance(finished, np.memmap) == on_disk


def test_the_file_is_that_of_numpy(tmp_path):
    array = FilledArray((4, 3), np.uint8, tmp_path / "rows.npy")
    rows = np.arange(24, dtype=np.uint8).reshape(4, 6)
    # Columns of a wider array: not contiguous.
    array.extend(rows[:, :3])
    array.finished()
    np.save(tmp_path / "saved.npy", rows[:, :3])
    assert (tmp_path / "rows.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_an_array_without_rows(tmp_path):
    assert FilledArray((2, 0, 3), np.int32).finished().shape == (2, 0, 3)
