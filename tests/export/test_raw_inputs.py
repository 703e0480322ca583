import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tests.export.shop_log import shop
from tfmtl.data import FeatureEncoder, HeldOutLog, TrainingLog, Vocabulary
from tfmtl.export import id_dtype, input_specs, raw_request, requested_features, takes_text
from tfmtl.export.raw_inputs import MISSING_ID, MISSING_TEXT, IdLookup
from tfmtl.schema import Feature, Schema, Task


def one_feature(values, held, **feature):
    """Encoder of a log with one feature `x`, and a held-out log of two other values of it."""
    schema = Schema(
        user=None, item=None, tasks=[Task(name="rich")], features=[Feature(name="x", **feature)]
    )
    labels = [1, 0] * (len(values) // 2)
    train = TrainingLog(pa.table({"x": values, "rich": labels}), schema)
    return FeatureEncoder.fit(train), HeldOutLog(pa.table({"x": held, "rich": [1, 0]}), schema)


def request_of(values, held, **feature):
    encoder, log = one_feature(values, held, **feature)
    received = raw_request(encoder, log)["x"]
    spec = input_specs(encoder, "serving_default")["x"]
    assert received.ndim == len(spec.shape)
    # What a client sends must be what the signature takes.
    tf.constant(received.tolist(), spec.dtype, received.shape)
    return received.tolist()


@pytest.mark.parametrize(
    ("values", "held", "expected"),
    [
        (["a", "b"], ["a", None], ["a", MISSING_TEXT]),
        (["a", ""], ["", None], ["", MISSING_TEXT]),
        ([1, 2], [2, None], [2, MISSING_ID]),
        ([1.0, None], [2.0, None], [2, MISSING_ID]),
        ([True, False], [True, None], [1, MISSING_ID]),
        # A column of nulls alone has no type; the model's vocabulary has.
        (["a", "b"], [None, None], [MISSING_TEXT] * 2),
        ([1, 2], [None, None], [MISSING_ID] * 2),
    ],
)
def test_missing_categories(values, held, expected):
    assert request_of(values, held) == expected


def test_missing_numbers():
    received = request_of([1.0, 2.0], [3.5, None], kind="numeric", fill=9.0)
    assert received[0] == 3.5
    assert np.isnan(received[1])
    assert np.isnan(request_of([1, 2], [None, None], kind="numeric", fill=9.0)).all()


def test_vectors_keep_their_width_and_missing_ones_are_zeros():
    kind = {"kind": "vector", "dim": 2}
    assert request_of([[1.0, 2.0], None], [[0.5, -4.0], None], **kind) == [[0.5, -4], [0, 0]]
    assert request_of([[1.0, 2.0], None], [None, None], **kind) == [[0, 0], [0, 0]]
    encoder, _ = one_feature([[1.0, 2.0], None], [None, None], **kind)
    spec = input_specs(encoder, "serving_default")["x"]
    assert spec == tf.TensorSpec([None, 2], tf.float32, "x")


@pytest.mark.parametrize(
    ("held", "expected"), [(["a|b", None], ["a|b", ""]), ([None, None], ["", ""])]
)
def test_missing_separated_lists(held, expected):
    received = request_of(["a", "b|c"], held, kind="multi_categorical", separator="|")
    assert received == expected


def test_lists_of_a_feature_with_a_separator_are_joined():
    lists = [["a"], ["b", "c"]]
    kind = {"kind": "multi_categorical", "separator": "|"}
    assert request_of(lists, [["c", "a"], None], **kind) == ["c|a", ""]
    assert request_of([[1], [2, 3]], [[3, 1], None], **kind) == ["3|1", ""]


def test_missing_texts():
    assert request_of(["A b", "c"], ["B", None], kind="text") == ["B", ""]
    assert request_of(["A b", "c"], [None, None], kind="text") == ["", ""]


def test_list_columns_are_padded_and_keep_the_last_values():
    kind = {"kind": "multi_categorical", "max_length": 2}
    m, t = MISSING_ID, MISSING_TEXT
    assert request_of([[1], [2]], [[1, 2, 3], [4]], **kind) == [[2, 3], [4, m]]
    assert request_of([[1], [2]], [[None, 5], None], **kind) == [[m, 5], [m, m]]
    assert request_of([["a"], ["b"]], [["a", "", "b"], []], **kind) == [["a", "b"], [t, t]]
    assert request_of([["a"], ["b"]], [None, None], **kind) == [[t, t], [t, t]]


def test_ids_keep_their_own_type():
    encoder = FeatureEncoder.fit(shop().split.train)
    request = raw_request(encoder, shop().split.test)
    assert request["user_id"][0].startswith("u")
    assert request["item_id"].dtype == np.int64
    assert id_dtype(encoder, "user_id") == tf.string
    assert id_dtype(encoder, "item_id") == tf.int64
    assert {len(values) for values in request.values()} == {40}


def test_a_user_who_is_not_in_the_table_has_the_mean_and_not_the_fill():
    split = shop().split
    encoder = FeatureEncoder.fit(split.train)
    ages = raw_request(encoder, split.test)["age"]
    absent = split.test.entity_index("user") < 0
    mean, _ = encoder.scales["age"]
    assert mean != pytest.approx(30.0)
    np.testing.assert_allclose(ages[absent], mean, rtol=1e-6)
    missing = split.test.user_ids == "u2"
    assert np.isnan(ages[missing]).all()
    assert missing.any()


def test_what_a_request_brings():
    encoder = FeatureEncoder.fit(shop().split.train)
    names = [feature.name for feature in requested_features(encoder, "by_id")]
    assert names == ["tab", "last_tab", "first_tab", "hour", "price", "bid", "seen", "mood"]
    assert len(requested_features(encoder, "serving_default")) == 15


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ({"kind": "text"}, True),
        ({"kind": "multi_categorical", "separator": ","}, True),
        ({"kind": "multi_categorical"}, False),
        ({"kind": "sequence", "vocabulary": "item_id", "separator": " "}, True),
        ({"kind": "categorical", "separator": ","}, False),
        ({"kind": "numeric"}, False),
    ],
)
def test_takes_text(feature, expected):
    assert takes_text(Feature(name="x", **feature)) is expected


VOCABULARIES = {
    "plain": lambda values: Vocabulary(values),
    "buckets": lambda values: Vocabulary(values, buckets=7),
    "hashed": lambda values: Vocabulary(values[:0], buckets=1000),
    "one bucket": lambda values: Vocabulary(values, buckets=1),
    "grown": lambda values: Vocabulary(values[1:], buckets=2).grow(Vocabulary(values)),
}


@pytest.mark.parametrize("kind", VOCABULARIES)
@pytest.mark.parametrize(
    ("values", "requested"),
    [
        ([5, -3, 2**40], [5, -3, 2**40, 0, -1, 6, 2**63 - 1, -(2**63) + 1, None]),
        (["b", "a", "日本"], ["b", "a", "日本", "", "c", "5", "x" * 100, "é" * 20, None]),
    ],
)
def test_a_saved_model_encodes_ids_as_the_encoder_does(kind, values, requested, tmp_path):
    """Known, unknown and missing ids, of both types, after a round trip through a SavedModel."""
    raw = pa.array(values)
    vocabulary = VOCABULARIES[kind](raw)
    expected = vocabulary.encode(pa.array(requested, raw.type))
    dtype, missing = (tf.int64, MISSING_ID) if values[0] == 5 else (tf.string, MISSING_TEXT)
    module = tf.Module()
    module.ids = IdLookup(vocabulary)
    module.encode = tf.function(module.ids.lookup, [tf.TensorSpec([None], dtype)])
    tf.saved_model.save(module, tmp_path)
    request = tf.constant([missing if x is None else x for x in requested], dtype)
    received = tf.saved_model.load(tmp_path).encode(request)
    assert received.dtype == tf.int32
    np.testing.assert_array_equal(received, expected)
    # What is compared must not be trivial.
    assert expected[-1] == 0
    assert (expected[3:-1] > 0).all() == (kind != "plain")


def test_hashed_ids_keep_their_own_type():
    for values, dtype in (([1, 2], tf.int64), (["a", "b"], tf.string)):
        encoder, _ = one_feature(values, values, hash_buckets=10)
        assert id_dtype(encoder, "x") == dtype
        assert input_specs(encoder, "serving_default")["x"].dtype == dtype
    assert request_of(["a", "b"], ["c", None], hash_buckets=10) == ["c", MISSING_TEXT]
