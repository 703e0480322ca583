import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tfmtl.data import LogError, Vocabulary
from tfmtl.data.feature_columns import (
    categorical_ids,
    list_values,
    numeric_values,
    padded_ids,
    vector_values,
)
from tfmtl.schema import Feature


def column(*values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


def numbers(*values, **options):
    return numeric_values(column(*values), Feature(name="x", kind="numeric", **options), "the log")


def encoded(raw, feature, vocabulary):
    return padded_ids(*list_values(raw, feature), feature, vocabulary)


def test_numbers_are_filled_before_they_are_transformed():
    assert_allclose(numbers(0, None, 1, fill=3.0, transform="log"), np.log([1, 4, 2]))
    assert_array_equal(numbers(2.5, float("inf"), fill=-1.0), [2.5, -1.0])
    assert_array_equal(numbers(True, False), [1.0, 0.0])


def test_a_missing_number_without_fill_names_feature_count_and_remedy():
    with pytest.raises(
        LogError,
        match=r"numeric feature 'x': column 'x' is missing, NaN or infinite in 2 of 3 rows of the "
        r"log: set fill= on the feature, or clean",
    ):
        numbers(float("nan"), 1.0, None)


def test_numbers_out_of_the_logarithm_are_refused():
    with pytest.raises(LogError, match=r"column 'x' of the log holds -1 and other .* in 2 rows"):
        numbers(0.0, -1.0, -3.0, transform="log")


def test_strings_are_no_numbers():
    with pytest.raises(LogError, match=r"'x': column 'x' of the log holds string: cast it to a"):
        numbers("1")


def test_categories_of_another_type_name_their_feature():
    with pytest.raises(LogError, match=r"feature 'tab', column 'tab': the vocabulary holds int64"):
        categorical_ids(column("1"), Feature(name="tab"), Vocabulary([1]))
    with pytest.raises(LogError, match=r"feature 'tab', column 'tab': expected integer or string"):
        categorical_ids(column(0.5), Feature(name="tab"), Vocabulary([1]))


def test_the_last_values_are_kept_and_padded_right():
    feature = Feature(name="seen", kind="sequence", vocabulary="item_id", max_length=3)
    lists = pa.chunked_array([[[5], [7, 5, 9, 7]], [None, [], [4, 9]]])
    # 4 is out of vocabulary and stays in its place.
    assert_array_equal(
        encoded(lists, feature, Vocabulary([5, 7, 9])),
        [[1, 0, 0], [1, 3, 2], [0, 0, 0], [0, 0, 0], [0, 3, 0]],
    )


def test_separated_strings_drop_empty_parts():
    feature = Feature(name="genre", kind="multi_categorical", separator="|", max_length=2)
    values, lengths = list_values(column("a||b|", "", None, "|c", "a|b|c"), feature)
    assert values.to_pylist() == ["a", "b", "c", "b", "c"]
    assert_array_equal(lengths, [2, 0, 0, 1, 2])


def test_separated_strings_may_share_integer_ids():
    feature = Feature(name="seen", kind="sequence", vocabulary="item_id", separator=",")
    ids = encoded(column("30,10"), feature, Vocabulary([10, 20, 30]))
    assert_array_equal(ids, [[3, 1, 0, 0, 0, 0, 0, 0]])
    with pytest.raises(LogError, match=r"feature 'seen', column 'seen': .*'x'"):
        encoded(column("30,x"), feature, Vocabulary([10]))


def test_text_is_lower_cased_and_split_at_everything_else():
    feature = Feature(name="title", kind="text", max_length=4)
    values, lengths = list_values(column("L'Été, (1995)!", "--", "A_b C"), feature)
    assert values.to_pylist() == ["l", "été", "1995", "a", "b", "c"]
    assert_array_equal(lengths, [3, 0, 3])


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("multi_categorical", "a|b", "holds large_string values; expected lists, or strings and a"),
        ("multi_categorical", 3, r"holds int64 values.*set separator= on the feature, or convert"),
        ("text", 3, "text feature 'x': column 'x' holds int64 values; expected strings"),
    ],
)
def test_columns_that_cannot_be_split_are_refused(kind, value, message):
    with pytest.raises(LogError, match=message):
        list_values(column(value), Feature(name="x", kind=kind))


def test_lists_of_fractions_are_refused():
    with pytest.raises(LogError, match=r"feature 'x', column 'x': expected integer or string ids"):
        list_values(column([0.5]), Feature(name="x", kind="multi_categorical"))


def test_a_column_of_nulls_is_a_column_of_empty_lists():
    feature = Feature(name="x", kind="multi_categorical", max_length=2)
    assert_array_equal(
        encoded(pa.chunked_array([pa.nulls(2)]), feature, Vocabulary(["a"])), [[0, 0], [0, 0]]
    )


def test_sliced_lists_are_read_from_their_own_start():
    feature = Feature(name="x", kind="multi_categorical", max_length=2)
    lists = pa.chunked_array([pa.array([[1, 2], None, [3], [4, 5, 6]]).slice(1)])
    assert_array_equal(
        encoded(lists, feature, Vocabulary([1, 2, 3, 4, 5, 6])), [[0, 0], [3, 0], [5, 6]]
    )


def vectors(raw):
    return vector_values(raw, Feature(name="v", kind="vector", column="w", dim=2), "items")


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64(), 2),
        pa.list_(pa.float32(), 2),
        pa.large_list(pa.int16()),
        pa.list_(pa.float16()),
    ],
)
def test_vectors_of_any_list_type_are_read_with_zeros_for_missing_ones(kind):
    parts = [pa.array([[1, 2], None, [3, -4]], kind), pa.array([[9, 9], [5, 6]], kind).slice(1)]
    read = vectors(pa.chunked_array(parts))
    assert read.dtype == np.float32
    assert_array_equal(read, [[1, 2], [0, 0], [3, -4], [5, 6]])


def test_a_column_of_nulls_is_a_column_of_missing_vectors():
    assert_array_equal(vectors(pa.chunked_array([pa.nulls(2)])), np.zeros((2, 2)))


@pytest.mark.parametrize("value", [[], [1.0], [1.0, 2.0, 3.0]])
def test_a_vector_of_another_length_is_refused(value):
    with pytest.raises(
        LogError,
        match=rf"vector feature 'v': column 'w' of items holds a list of {len(value)} values, and "
        r"another length than 2 in 1 of 3 rows: set dim= to the length",
    ):
        vectors(column([1.0, 2.0], None, value, kind=pa.list_(pa.float64())))


@pytest.mark.parametrize("value", [None, float("nan"), float("-inf"), 1e300])
def test_numbers_of_a_vector_must_be_finite(value):
    with pytest.raises(
        LogError,
        match=r"vector feature 'v': column 'w' of items holds vectors with numbers that are "
        r"missing, NaN or infinite in 2 of 3 rows; expected finite ones",
    ):
        vectors(column([1.0, value], [1.0, 2.0], [value, value], kind=pa.list_(pa.float64())))


@pytest.mark.parametrize(
    ("value", "kind"), [("0.5 1", "string"), (0.5, "double"), (["a", "b"], "list<.*string>")]
)
def test_columns_without_lists_of_numbers_hold_no_vectors(value, kind):
    with pytest.raises(
        LogError, match=rf"'v': column 'w' of items holds {kind}; expected lists of 2 floats: read"
    ):
        vectors(column(value))
