import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tensorflow as tf

from tests.export.shop_log import STATISTICS, shop
from tfmtl.data import FeatureEncoder, HeldOutLog, StatisticsConfig, TrainingLog
from tfmtl.export import GraphEncoder, input_specs, raw_request
from tfmtl.schema import Feature, Schema, Task


def tensors(encoder, request, signature="serving_default"):
    specs = input_specs(encoder, signature)
    assert request.keys() == specs.keys()
    return {
        name: tf.constant(values.tolist(), specs[name].dtype, shape=values.shape)
        for name, values in request.items()
    }


def served(encoder, log, signature="serving_default"):
    """Features of a log as the export encodes them."""
    module = GraphEncoder(encoder)
    encode = module.encode if signature == "serving_default" else module.encode_by_id
    return encode(tensors(encoder, raw_request(encoder, log, signature), signature))


def assert_same_features(received, expected):
    assert received.keys() == expected.keys()
    for name, values in expected.items():
        tensor = received[name].numpy()
        assert tensor.shape == values.shape, name
        assert tensor.dtype == values.dtype, name
        np.testing.assert_allclose(tensor, values, rtol=2e-6, atol=2e-6, err_msg=name)


@pytest.fixture(scope="module")
def encoder():
    return FeatureEncoder.fit(shop().split.train, statistics=STATISTICS)


@pytest.mark.parametrize("signature", ["serving_default", "by_id"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("user_kind", "item_kind"), [("text", "number"), ("number", "text"), ("text", "text")]
)
def test_requests_are_encoded_as_logs_are(user_kind, item_kind, seed, signature):
    split = shop(seed, user_kind, item_kind).split
    encoder = FeatureEncoder.fit(split.train, statistics=STATISTICS)
    for log in (split.validation, split.test):
        assert_same_features(served(encoder, log, signature), encoder.encode(log).features)


@pytest.mark.parametrize("signature", ["serving_default", "by_id"])
def test_aligned_histories_are_served(signature):
    schema = Schema(
        tasks=[Task(name="click")],
        features=[
            Feature(name="seen", kind="sequence", vocabulary="item_id", max_length=3),
            Feature(name="stars", kind="sequence", max_length=3),
        ],
    )
    rows = {"user_id": [1, 1, 2], "item_id": [40, 50, 60], "click": [1, 0, 1]}
    past = {"seen": [[], [40], [50, 40]], "stars": [[], [5], [2, 3]]}
    encoder = FeatureEncoder.fit(TrainingLog(pa.table(rows | past), schema))
    # Item 70 and 4 stars are unknown, each in its place beside a known one.
    past = {"seen": [[60, 70, 40, 50], None, [70]], "stars": [[3, 2, 4, 5], None, [5]]}
    log = HeldOutLog(pa.table(rows | past), schema)
    features = encoder.encode(log).features
    np.testing.assert_array_equal(features["seen"], [[0, 1, 2], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(features["stars"], [[1, 0, 3], [0, 0, 0], [3, 0, 0]])
    assert_same_features(served(encoder, log, signature), features)


def test_the_log_meets_every_kind_of_the_unknown(encoder):
    """Guards the test above: what it compares must not be trivial."""
    test = shop().split.test
    features = encoder.encode(test).features
    assert (features["user_id"] == 0).any()
    assert (features["item_id"] == 0).any()
    assert (features["seen"][:, 0] == 0).any()
    assert len(np.unique(features["country"])) == 3
    assert 4 in np.flatnonzero(encoder.entity_table("user").columns["user_id"])
    absent = test.entity_index("user") < 0
    assert np.isnan(test.column(test.schema.features[0]).to_numpy()).any()
    known = features["user_id"] > 0
    assert (absent & known).any()
    assert (absent & ~known).any()
    assert (features["age"][absent] == 0).all()
    # Rare countries: one embedding, several rows of statistics.
    rare = features["country"] == 0
    assert len(np.unique(features["statistics"][rare][:, 6:9], axis=0)) > 2


def test_without_statistics():
    split = shop().split
    encoder = FeatureEncoder.fit(split.train)
    for signature in ("serving_default", "by_id"):
        received = served(encoder, split.test, signature)
        assert "statistics" not in received
        assert_same_features(received, encoder.encode(split.test).features)


def test_an_entity_known_to_its_table_only(encoder):
    module = GraphEncoder(encoder)
    raw = tensors(encoder, raw_request(encoder, shop().split.test, "by_id"), "by_id")
    raw = {name: values[:1] for name, values in raw.items()}
    raw["user_id"] = tf.constant(["u50"])
    features = module.encode_by_id(raw)
    table = encoder.entity_table("user")
    place = 1 + list(table.keys).index("u50")
    assert features["user_id"].numpy().tolist() == [0]
    assert features["age"].numpy().tolist() == [table.columns["age"][place]]
    assert table.columns["age"][place] != 0


def context_log(kind, values, schema):
    return kind(
        pa.table({**values, "rich": [1, 0] * (len(next(iter(values.values()))) // 2)}), schema
    )


@pytest.fixture
def census():
    """A log without users and items, as Census-Income is."""
    schema = Schema(
        user=None,
        item=None,
        tasks=[Task(name="rich")],
        features=[
            Feature(name="job"),
            Feature(name="hours", kind="numeric"),
            Feature(name="skills", kind="multi_categorical", separator=","),
        ],
    )
    train = {"job": ["a", "b", "b", None], "hours": [1, 2, 40, 5], "skills": ["x,y", "", "y", None]}
    held = {"job": ["b", None], "hours": [40, 7], "skills": ["q,y,x", ","]}
    return context_log(TrainingLog, train, schema), context_log(HeldOutLog, held, schema)


def test_a_log_without_ids(census):
    train, held = census
    encoder = FeatureEncoder.fit(train, statistics=StatisticsConfig(entities=["job"], folds=2))
    assert list(input_specs(encoder, "serving_default")) == ["job", "hours", "skills"]
    assert_same_features(served(encoder, held), encoder.encode(held).features)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0, -7.0])
def test_numbers_that_cannot_be_scaled_are_the_training_mean(value, encoder):
    raw = tensors(encoder, raw_request(encoder, shop().split.test))
    raw["price"] = tf.constant([value] * 40)
    raw["bid"] = tf.constant([value] * 40)
    features = GraphEncoder(encoder).encode(raw)
    mean, deviation = encoder.scales["bid"]
    if np.isfinite(value):
        # log(1 + x) of -1 and less.
        np.testing.assert_array_equal(features["bid"], np.zeros(40, np.float32))
    else:
        filled = (np.log1p(2.0) - mean) / deviation
        np.testing.assert_allclose(features["bid"], np.full(40, filled), rtol=1e-6)
        np.testing.assert_array_equal(features["price"], np.zeros(40, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_with_a_number_that_is_not_finite_is_a_missing_one(value, encoder):
    raw = tensors(encoder, raw_request(encoder, shop().split.test))
    raw["cover"] = tf.constant([[1.0, value, 2.0], *[[1.0, 3.0, 2.0]] * 39])
    cover = GraphEncoder(encoder).encode(raw)["cover"].numpy()
    np.testing.assert_array_equal(cover[:2], [[0, 0, 0], [1, 3, 2]])


@pytest.mark.parametrize("values", [["a", "b", "c", "d"], [1, 2, 3, 4], [None] * 4])
def test_a_vocabulary_without_values(values):
    schema = Schema(
        user=None, item=None, tasks=[Task(name="rich")], features=[Feature(name="x", min_count=2)]
    )
    encoder = FeatureEncoder.fit(context_log(TrainingLog, {"x": values}, schema))
    held = context_log(HeldOutLog, {"x": values}, schema)
    assert_same_features(served(encoder, held), {"x": np.zeros(4, np.int32)})


def test_the_history_extends_what_is_known():
    split = shop().split
    history = TrainingLog(
        pa.table({"who": ["u77", "u0"], "what": [5, 1007], "click": [1, 0]}),
        Schema(user="who", item="what", tasks=[Task(name="click")]),
    )
    statistics = StatisticsConfig(entities=["user_id", "item_id"])
    encoder = FeatureEncoder.fit(split.train, history, statistics)
    rows = split.test.rows
    users = pc.if_else(pc.equal(rows["who"], "u13"), "u77", rows["who"])
    log = HeldOutLog(
        rows.set_column(rows.column_names.index("who"), "who", users),
        split.test.schema,
        split.test.users,
        split.test.items,
    )
    for signature in ("serving_default", "by_id"):
        assert_same_features(served(encoder, log, signature), encoder.encode(log).features)


@pytest.mark.parametrize("first", [0x20, 0x3000, 0x1E00, 0xA000, 0x10000])
def test_words_are_split_and_lowered_alike(first):
    """Every character of a stretch of Unicode, alone, doubled and within a word."""
    # Letters newer than one of the two libraries' tables are left out.
    newer = {*range(0x1C89, 0x1C8B), 0x2C2F, *range(0xA7C0, 0xA7DD), *range(0x10570, 0x105BD)}
    characters = [
        chr(code)
        for code in range(first, first + 0x3000)
        if not 0xD800 <= code < 0xE000 and code not in newer
    ]
    texts = [f"{c} x{c}{c} y{c}z" for c in characters]
    schema = Schema(
        user=None,
        item=None,
        tasks=[Task(name="rich")],
        features=[Feature(name="x", kind="text", max_length=6)],
    )
    texts += [""] * (len(texts) % 2)
    encoder = FeatureEncoder.fit(context_log(TrainingLog, {"x": texts}, schema))
    held = context_log(HeldOutLog, {"x": texts}, schema)
    expected = encoder.encode(held).features
    received = served(encoder, held)
    wrong = np.flatnonzero((received["x"].numpy() != expected["x"]).any(axis=1))
    assert not [texts[row] for row in wrong]


@pytest.mark.parametrize("text", ["ΟΔΥΣΣΕΥΣ", "İSTANBUL", "ǅ ẞ", "ΑΣ.Σ", "a\u00a0b\u2028c\tD"])
def test_cases_that_depend_on_their_neighbours(text):
    schema = Schema(
        user=None, item=None, tasks=[Task(name="rich")], features=[Feature(name="x", kind="text")]
    )
    encoder = FeatureEncoder.fit(context_log(TrainingLog, {"x": [text, ""]}, schema))
    held = context_log(HeldOutLog, {"x": [text, ""]}, schema)
    expected = encoder.encode(held).features
    assert expected["x"][0, 0] > 0
    assert_same_features(served(encoder, held), expected)


BUCKETS = {
    "device": ["a", "b", "a", None, "c", "a"],
    "past": [["a", "z"], [], None, ["b"], ["c", "c"], ["a"]],
    "page": [7, 7, 8, None, 9, 9],
    "tags": ["3|1", "", "03", None, "1", "3"],
    "words": ["big film", "big", "Film", "", None, "rare"],
    "seen": [[40], [50, 60], [], None, [60], [40]],
}


@pytest.mark.parametrize("grown", [False, True])
@pytest.mark.parametrize("signature", ["serving_default", "by_id"])
def test_hashed_and_unknown_ids_are_served_as_they_are_encoded(signature, grown):
    schema = Schema(
        tasks=[Task(name="click")],
        features=[
            Feature(name="device", side="user", hash_buckets=100),
            Feature(name="past", kind="sequence", vocabulary="device", max_length=2),
            Feature(name="page", min_count=2, oov_buckets=3),
            Feature(name="tags", kind="multi_categorical", separator="|", hash_buckets=50),
            Feature(name="words", kind="text", min_count=2, oov_buckets=5, max_length=3),
            Feature(name="seen", kind="sequence", vocabulary="item_id", max_length=2),
        ],
    )
    ids = {"user_id": [1, 1, 2, 2, 3, 3], "item_id": [40, 50, 60, 40, 50, 60]}
    labels = {"click": [1, 0, 1, 0, 1, 0]}
    encoder = FeatureEncoder.fit(
        TrainingLog(pa.table(ids | BUCKETS | labels), schema),
        statistics=StatisticsConfig(entities=["user_id", "page"], folds=2),
    )
    if grown:
        new = {
            "user_id": [0, 0, 1, 2, 0, 3],
            "item_id": [40, 30, 30, 50, 60, 40],
            "page": [5, 5, 7, 7, 7, 7],
        }
        encoder = encoder.grow(TrainingLog(pa.table(ids | BUCKETS | new | labels), schema))
        assert encoder.vocabularies["page"].values.tolist() == [7, 9, 5]
    held = {
        "user_id": [1, 1, 3, 3],
        "item_id": [40, 99, 60, 40],
        # As in training for `by_id`, which takes the users' own from there.
        "device": ["a", "a", "a", "a"] if signature == "by_id" else ["q", "", None, "a"],
        "past": [["new", "a"], [None, "c"], [], ["", "x", "y"]],
        "page": [7, 70, None, 71],
        "tags": ["3|1|77", "03", "", None],
        "words": ["Big unknown film", "other", "", "big big big big"],
        "seen": [[40, 99], [98], [], None],
        "click": [1, 0, 1, 0],
    }
    if signature == "by_id":
        latest = encoder.entity_table("user")
        places = [1 + list(latest.keys).index(user) for user in held["user_id"]]
        known = {"a": 0, "b": 0, "c": 0} | {
            text: int(encoder.vocabularies["device"].encode([text])[0]) for text in "abc"
        }
        by_number = {number: text for text, number in known.items()} | {0: None}
        held["device"] = [by_number[n] for n in latest.columns["device"][places].tolist()]
    log = HeldOutLog(pa.table(held), schema)
    features = encoder.encode(log).features
    assert_same_features(served(encoder, log, signature), features)
    # What is compared must not be trivial: unknown pages are in buckets, ahead of the known ones.
    assert features["page"][0] > 3 >= features["page"][1] > 0 == features["page"][2]
    assert (features["tags"][:2] > 0).sum() == 4
