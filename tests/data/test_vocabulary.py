import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
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


def bucket(text, buckets):
    """Bucket of an id by TensorFlow's hash, which an exported model uses."""
    return 1 + int(tf.strings.to_hash_bucket_fast(text, buckets))


def test_unknown_ids_are_hashed_into_buckets_ahead_of_the_known_ones():
    vocabulary = Vocabulary(["b", "a"], buckets=5)
    assert vocabulary.size == 1 + 5 + 2
    # a and b are the first and second behind five buckets.
    expected = [6, 7, bucket("c", 5), 0, bucket("", 5)]
    assert_array_equal(vocabulary.encode(["a", "b", "c", None, ""]), expected)
    assert vocabulary.encode(["c"]).dtype == np.int32


def test_without_values_every_id_is_hashed():
    vocabulary = Vocabulary(pa.array([], pa.large_string()), buckets=1000)
    assert vocabulary.size == 1001
    ids = [f"id {number % 40}" for number in range(100)]
    assert_array_equal(vocabulary.encode(ids), [bucket(text, 1000) for text in ids])


def test_integers_are_hashed_by_their_decimal_digits():
    vocabulary = Vocabulary([], buckets=1000)
    ids = [0, 7, -12, 2**62, None]
    expected = [*(bucket(str(number), 1000) for number in ids[:-1]), 0]
    assert_array_equal(vocabulary.encode(pa.array(ids)), expected)
    # A missing integer on its way through CSV.
    assert_array_equal(vocabulary.encode(np.array([7.0, np.nan])), [bucket("7", 1000), 0])


def test_hashing_knows_the_type_of_its_ids():
    with pytest.raises(ValueError, match="holds int64 ids; received large_string: cast the column"):
        Vocabulary([], buckets=10).encode(["1"])
    assert Vocabulary(np.array([], object), buckets=10).type == pa.large_string()


def test_a_grown_vocabulary_keeps_its_numbers():
    grown = Vocabulary(["d", "b"]).grow(Vocabulary(["a", "d", "c"]))
    assert grown.values.tolist() == ["b", "d", "a", "c"]
    assert_array_equal(grown.encode(["b", "d", "a", "c", "x"]), [1, 2, 3, 4, 0])
    again = grown.grow(Vocabulary(["aa"]))
    assert again.values.tolist() == ["b", "d", "a", "c", "aa"]


def test_growth_leaves_buckets_as_they_are():
    before = Vocabulary([10], buckets=3)
    grown = before.grow(Vocabulary([5]))
    assert grown.buckets == 3
    ids = np.array([10, 77, 78])
    assert_array_equal(grown.encode(ids), before.encode(ids))
    assert_array_equal(grown.encode(np.array([5])), [5])


def test_an_empty_vocabulary_grows_and_growth_by_nothing_changes_nothing():
    assert Vocabulary([]).grow(Vocabulary(["b", "a"])).values.tolist() == ["a", "b"]
    assert Vocabulary(["b"]).grow(Vocabulary([])).values.tolist() == ["b"]


def test_growth_by_ids_of_another_type_is_refused():
    with pytest.raises(ValueError, match=r"holds int64 ids such as 1; received large_string"):
        Vocabulary([1]).grow(Vocabulary(["1"]))


def test_values_may_keep_their_order():
    vocabulary = Vocabulary(["b", "a", "b"], sort=False)
    assert vocabulary.values.tolist() == ["b", "a"]
    assert_array_equal(vocabulary.encode(["a", "b"]), [2, 1])
