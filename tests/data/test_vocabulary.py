import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from tfmtl.data import Vocabulary


def test_ids_follow_the_sorted_values():
    vocabulary = Vocabulary([30, -5, 7, 30])
    assert vocabulary.size == 4
    assert_array_equal(vocabulary.values, [-5, 7, 30])
    encoded = vocabulary.encode(np.array([7, 8, 30, -5], np.int16))
    assert encoded.dtype == np.int32
    assert_array_equal(encoded, [2, 0, 3, 1])


def test_strings_sort_by_code_point():
    vocabulary = Vocabulary(["é", "b", "B", "日"])
    assert vocabulary.values.tolist() == sorted(["é", "b", "B", "日"])
    assert_array_equal(vocabulary.encode(["日", "B", "x", None]), [4, 1, 0, 0])


def test_fit_keeps_what_occurs_often_enough():
    values = pa.chunked_array([["a", "b", None], ["a", "c", "b", None, "a"]])
    assert Vocabulary.fit(values, min_count=2).values.tolist() == ["a", "b"]
    assert Vocabulary.fit(values, min_count=3).values.tolist() == ["a"]
    assert Vocabulary.fit(values, min_count=4).size == 1


def test_fit_weighs_values_by_their_counts():
    counts = np.array([0, 2, 1, 1])
    assert_array_equal(Vocabulary.fit([9, 8, 7, 7], 2, counts).values, [7, 8])
    assert_array_equal(Vocabulary.fit([9, 8, 7, 7], 1, counts).values, [7, 8])


def test_whole_floats_are_the_integers_they_came_from():
    vocabulary = Vocabulary.fit(np.array([2.0, np.nan, 1.0]))
    assert vocabulary.values.dtype == np.int64
    assert_array_equal(vocabulary.encode(np.array([np.nan, 2.0, 3.0])), [0, 2, 0])


def test_an_empty_vocabulary_knows_nothing():
    vocabulary = Vocabulary([])
    assert vocabulary.size == 1
    assert_array_equal(vocabulary.encode(["a", "b"]), [0, 0])


def test_missing_values_of_any_type_are_out_of_vocabulary():
    assert_array_equal(Vocabulary(["a"]).encode(pa.nulls(2)), [0, 0])


def test_values_of_another_type_are_refused_with_both_types():
    with pytest.raises(
        ValueError, match=r"holds int64 ids such as 1; received large_string: cast the column"
    ):
        Vocabulary([1, 2]).encode(["1"])
