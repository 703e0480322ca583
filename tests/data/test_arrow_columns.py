import hashlib

import numpy as np
import pyarrow as pa
import pytest

from tfmtl.data.arrow_columns import canonical, hash_column, identifiers


def digest_of(column):
    digest = hashlib.sha256()
    hash_column(digest, column)
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, None], pa.int8()), [1, None]),
        (pa.array(["b", None]).dictionary_encode(), ["b", None]),
        (pa.array([1, 2], pa.timestamp("ms")), [1, 2]),
        (pa.array([3], pa.date32()), [3]),
        (pa.array([7], pa.time32("s")), [7]),
        (pa.array([[1, 2], None], pa.list_(pa.int16())), [[1, 2], None]),
        (pa.array([None, None]), [None, None]),
    ],
)
def test_canonical_keeps_values_and_nulls(column, expected):
    assert canonical(column).to_pylist() == expected


def test_canonical_refuses_a_struct():
    with pytest.raises(TypeError, match=r"received struct<a: int64>"):
        canonical(pa.array([{"a": 1}]))


def test_identifiers_refuse_fractions_with_their_number():
    with pytest.raises(ValueError, match=r"received .*2\.5.* and 1 other fractions"):
        identifiers(np.array([1.0, 2.5, 3.5]))


def test_identifiers_refuse_lists():
    with pytest.raises(ValueError, match="expected integer or string ids; received a column of"):
        identifiers(pa.array([[1]]))


def test_identifiers_of_objects_take_none_as_missing():
    assert identifiers(np.array(["b", None], object)).to_pylist() == ["b", None]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1, 2], pa.int8()), pa.array([0, 1, 2])[1:]),
        (pa.chunked_array([["a"], ["bc", None]]), pa.array(["x", "a", "bc", None])[1:]),
        (pa.array([[1], [2, 3], None]), pa.array([[9], [1], [2, 3], None])[1:]),
        (pa.array([None, 2]), pa.array([5, 2], mask=np.array([True, False]))),
    ],
)
def test_hash_depends_on_content_not_on_layout(one, other):
    assert digest_of(one) == digest_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1, 2]), pa.array([2, 1])),
        (pa.array(["ab", "c"]), pa.array(["a", "bc"])),
        (pa.array([[1, 2], [3]]), pa.array([[1], [2, 3]])),
        (pa.array([0, None]), pa.array([None, 0])),
        (pa.array([[], None], pa.list_(pa.int64())), pa.array([None, []], pa.list_(pa.int64()))),
    ],
)
def test_hash_tells_contents_apart(one, other):
    assert digest_of(one) != digest_of(other)
