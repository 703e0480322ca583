import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tfmtl.data.array_store import content_digest, read_arrays, write_arrays

ARRAYS = {
    "ids": np.array([3, 1], np.int32),
    "words": np.array(["a\0", "", "日本"], object),
    "none": np.array([], object),
    "grid": np.arange(6, dtype=np.float32).reshape(2, 3),
}


def test_arrays_come_back_with_type_and_shape(tmp_path):
    write_arrays(tmp_path / "new", "store", {"version": 1}, ARRAYS)
    document, arrays = read_arrays(tmp_path / "new", "store")
    assert document == {"version": 1}
    assert set(arrays) == set(ARRAYS)
    for name, expected in ARRAYS.items():
        assert arrays[name].dtype == expected.dtype
        assert_array_equal(arrays[name], expected)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["store.json", "store.npz"]


def test_the_digest_depends_on_every_part():
    one = content_digest({"a": 1}, ARRAYS)
    assert one == content_digest({"a": 1}, dict(reversed(ARRAYS.items())))
    assert one != content_digest({"a": 2}, ARRAYS)
    assert one != content_digest({"a": 1}, {**ARRAYS, "grid": ARRAYS["grid"].reshape(3, 2)})
    assert one != content_digest({"a": 1}, {**ARRAYS, "ids": ARRAYS["ids"].astype(np.int64)})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read store\.json and store\.npz: .*No such file"):
        read_arrays(tmp_path, "store")


def test_a_truncated_file_is_refused(tmp_path):
    write_arrays(tmp_path, "store", {}, ARRAYS)
    data = (tmp_path / "store.npz").read_bytes()
    (tmp_path / "store.npz").write_bytes(data[:-40])
    with pytest.raises(ValueError, match=r"cannot read store\.json and store\.npz"):
        read_arrays(tmp_path, "store")


def test_files_of_two_writes_do_not_mix(tmp_path):
    write_arrays(tmp_path, "store", {}, ARRAYS)
    old = (tmp_path / "store.json").read_text()
    write_arrays(tmp_path, "store", {}, {**ARRAYS, "ids": np.array([9], np.int32)})
    (tmp_path / "store.json").write_text(old)
    with pytest.raises(ValueError, match="do not belong together or are damaged: checksum"):
        read_arrays(tmp_path, "store")


def test_a_document_without_checksum_is_refused(tmp_path):
    write_arrays(tmp_path, "store", {}, ARRAYS)
    (tmp_path / "store.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match=r"cannot read store\.json and store\.npz"):
        read_arrays(tmp_path, "store")


def test_a_failed_write_leaves_the_old_files(tmp_path):
    write_arrays(tmp_path, "store", {}, ARRAYS)
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_arrays(tmp_path, "store", {"a": object()}, {})
    assert_array_equal(read_arrays(tmp_path, "store")[1]["ids"], [3, 1])
    assert len(list(tmp_path.iterdir())) == 2
