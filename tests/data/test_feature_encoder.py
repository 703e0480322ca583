import json

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tfmtl.data import (
    FeatureEncoder,
    FeatureEncoderError,
    HeldOutLog,
    InputSpec,
    InteractionLog,
    LogError,
    StatisticsConfig,
    TrainingLog,
)
from tfmtl.schema import Feature, Schema, Task

NAN = np.nan
STATISTICS = StatisticsConfig(entities=["user_id", "item_id", "tab"])


@pytest.fixture
def train(build):
    return build(kind=TrainingLog)


@pytest.fixture
def held_out(build):
    rows = {
        "uid": [9, 8, 77, 5, 3, 3],
        "vid": ["a", "z", "b", "c", "b", "b"],
        "tab": ["y", "new", None, "x", "z", "z"],
        "price": [3.5, 1.0, 2.0, 6.0, 7.0, 8.0],
        "click": [None, 1.0, 0.0, 1.0, 1.0, 0.0],
    }
    return build(rows, kind=HeldOutLog)


@pytest.fixture
def history():
    schema = Schema(
        user="u", item="i", tasks=[Task(name="click")], features=[Feature(name="tab", column="t")]
    )
    rows = {"u": [3, 4], "i": ["d", "a"], "t": ["w", "x"], "click": [1, 0]}
    return TrainingLog(pa.table(rows), schema)


def assert_same_columns(one, other):
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert_array_equal(one[name], other[name])


def one_feature(values, **feature):
    schema = Schema(
        tasks=[Task(name="click")], user=None, item=None, features=[Feature(name="x", **feature)]
    )
    return TrainingLog(pa.table({"x": values, "click": [1] * len(values)}), schema)


def test_inputs_say_what_a_model_must_know(train):
    encoder = FeatureEncoder.fit(train, statistics=STATISTICS)
    assert encoder.inputs == (
        InputSpec("user_id", "categorical", "user", 4, 1, "user_id"),
        InputSpec("item_id", "categorical", "item", 4, 1, "item_id"),
        InputSpec("age", "numeric", "user", 0, 1, None),
        InputSpec("genre", "list", "item", 3, 3, "genre", list_kind="multi_categorical"),
        InputSpec("words", "list", "item", 5, 2, "words", list_kind="text"),
        InputSpec("tab", "categorical", "context", 4, 1, "tab"),
        InputSpec("price", "numeric", "context", 0, 1, None),
        InputSpec("statistics", "numeric", "context", 0, 9, None),
    )


def test_training_rows_are_encoded(train):
    encoded = FeatureEncoder.fit(train).encode(train)
    features = encoded.features
    assert_array_equal(features["user_id"], [1, 1, 3, 3, 1, 2])
    assert_array_equal(features["item_id"], [2, 1, 2, 3, 3, 1])
    # Users 3, 3, 3 and 5 are in the table: mean 35, deviation sqrt(75); user 8 is not.
    assert_allclose(features["age"], np.array([-5, -5, 0, 0, -5, 15]) / np.sqrt(75), rtol=1e-6)
    # Genres: drama 1, war 2; item a has none.
    assert_array_equal(
        features["genre"],
        [[1, 0, 0], [0, 0, 0], [1, 0, 0], [2, 1, 0], [2, 1, 0], [0, 0, 0]],
    )
    # Words: 3, ah, be, c.
    assert_array_equal(features["words"], [[3, 0], [2, 0], [3, 0], [4, 1], [4, 1], [2, 0]])
    assert_array_equal(features["tab"], [1, 2, 1, 0, 3, 1])
    price = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]) / np.sqrt(35 / 12)
    assert_allclose(features["price"], price, rtol=1e-6)
    assert {array.dtype.name for array in features.values()} == {"int32", "float32"}


def test_labels_weights_times_and_groups(train):
    encoded = FeatureEncoder.fit(train).encode(train)
    assert len(encoded) == 6
    assert encoded.is_training
    assert_array_equal(encoded.labels["like"], [1, 0, 0, 1, 0, 1])
    assert_array_equal(encoded.weights["like"], [1, 0, 1, 1, 0, 1])
    assert_array_equal(encoded.weights["click"], np.ones(6))
    assert encoded.labels["like"].dtype == encoded.weights["like"].dtype == np.float32
    assert_array_equal(encoded.times, [10, 20, 20, 30, 40, 50])
    assert encoded.groups.dtype == np.int64


def test_held_out_rows_meet_unknown_ids(train, held_out):
    encoded = FeatureEncoder.fit(train).encode(held_out)
    assert not encoded.is_training
    # User 9 is in the table of users but not in training, user 77 in neither.
    assert_array_equal(encoded.features["user_id"], [0, 3, 0, 2, 1, 1])
    assert_array_equal(encoded.features["item_id"], [1, 0, 2, 3, 2, 2])
    assert_allclose(
        encoded.features["age"], np.array([55, 0, 0, 15, -5, -5]) / np.sqrt(75), rtol=1e-6
    )
    assert_array_equal(encoded.features["genre"][1], [0, 0, 0])
    assert_array_equal(encoded.features["tab"], [2, 0, 0, 1, 3, 3])
    assert_array_equal(encoded.weights["click"], [0, 1, 1, 1, 1, 1])


def test_groups_tell_unknown_users_apart(train, held_out):
    groups = FeatureEncoder.fit(train).encode(held_out).groups
    users = held_out.user_ids
    same_group = groups[:, None] == groups[None, :]
    assert_array_equal(same_group, users[:, None] == users[None, :])


def test_a_log_without_ids(train):
    log = one_feature(["b", "a", "b"])
    encoder = FeatureEncoder.fit(log, statistics=StatisticsConfig(entities=["x"], folds=2))
    encoded = encoder.encode(log)
    assert list(encoded.features) == ["x", "statistics"]
    assert_array_equal(encoded.features["x"], [2, 1, 2])
    assert encoded.groups is None
    assert encoded.times is None
    with pytest.raises(LogError, match=r"no table of 'user'; expected one of \[\]"):
        encoder.entity_table("user")


def test_history_extends_vocabularies_but_not_scales(train, history):
    encoder = FeatureEncoder.fit(train, history)
    assert_array_equal(encoder.vocabularies["user_id"].values, [3, 4, 5, 8])
    assert encoder.vocabularies["item_id"].values.tolist() == ["a", "b", "c", "d"]
    assert encoder.vocabularies["tab"].values.tolist() == ["w", "x", "y", "z"]
    assert encoder.scales == FeatureEncoder.fit(train).scales


def test_vocabularies_count_training_rows_not_table_rows(build):
    # Of items b, a, b, c, c, a the word of a is seen in 2 rows, though in one row of items.
    items = {"vid": ["c", "a", "b", "q"], "genre": ["war"] * 4, "title": ["x y", "y", "z", "q"]}
    encoder = FeatureEncoder.fit(build(items=items, kind=TrainingLog))
    assert encoder.vocabularies["words"].values.tolist() == ["x", "y", "z"]
    schema = build().schema
    rare = schema.features[2].model_copy(update={"min_count": 3})
    features = (*schema.features[:2], rare, *schema.features[3:])
    schema = schema.model_copy(update={"features": features})
    encoder = FeatureEncoder.fit(build(items=items, schema=schema, kind=TrainingLog))
    assert encoder.vocabularies["words"].values.tolist() == ["y"]


def test_shared_vocabularies(build):
    schema = Schema(
        tasks=[Task(name="click")],
        features=[
            Feature(name="seen", kind="sequence", vocabulary="item_id", max_length=2),
            Feature(name="tags", kind="multi_categorical", separator=" "),
            Feature(name="main_tag", vocabulary="tags"),
            Feature(name="other_tag", vocabulary="main_tag"),
        ],
    )
    rows = {
        "user_id": [1, 2],
        "item_id": [40, 30],
        "click": [1, 0],
        "seen": [[30, 50, 40], []],
        "tags": ["b a", "c"],
        "main_tag": ["a", "z"],
        "other_tag": ["c", "b"],
    }
    train = TrainingLog(pa.table(rows), schema)
    encoder = FeatureEncoder.fit(train)
    assert sorted(encoder.vocabularies) == ["item_id", "tags", "user_id"]
    assert [spec.vocabulary for spec in encoder.inputs[2:]] == ["item_id", "tags", "tags", "tags"]
    features = encoder.encode(train).features
    assert_array_equal(features["seen"], [[0, 2], [0, 0]])
    assert_array_equal(features["main_tag"], [1, 0])
    assert_array_equal(features["other_tag"], [3, 2])


def test_a_sequence_may_have_a_vocabulary_of_its_own():
    train = one_feature([[30, 10], [20, 30, 10]], kind="sequence", max_length=2)
    encoder = FeatureEncoder.fit(train)
    # The last two of each list are kept, so that 20 is not seen.
    assert encoder.vocabularies["x"].values.tolist() == [10, 30]
    assert_array_equal(encoder.encode(train).features["x"], [[2, 1], [2, 1]])


@pytest.mark.parametrize("shared", ["brand", "user_id", "x"])
def test_a_vocabulary_that_cannot_be_shared_is_named(shared):
    with pytest.raises(LogError, match=rf"feature 'x': no vocabulary '{shared}' to share"):
        FeatureEncoder.fit(one_feature(["a"], vocabulary=shared))


def test_numeric_scales():
    values = [0.0, 3.0, 3.0, None]
    train = one_feature(values, kind="numeric", transform="log", fill=0.0)
    encoder = FeatureEncoder.fit(train)
    # log(1 + x) is 0, log 4, log 4, 0: mean and deviation are both log(4) / 2.
    assert_allclose(encoder.encode(train).features["x"], [-1, 1, 1, -1], rtol=1e-6)
    train = one_feature([0.1, 0.1, 0.1], kind="numeric")
    assert_allclose(FeatureEncoder.fit(train).encode(train).features["x"], 0, atol=1e-9)
    train = one_feature([5.0, 7.0], kind="numeric", transform="none")
    assert_array_equal(FeatureEncoder.fit(train).encode(train).features["x"], [5, 7])


def test_nan_in_a_feature_without_fill_is_refused(train, held_out, build):
    prices = [1.0, NAN, 3.0, None, 5.0, 6.0]
    message = (
        r"numeric feature 'price': column 'price' is missing, NaN or infinite in 2 of 6 rows of "
        r"the {}: set fill= on the feature, or clean the column"
    )
    with pytest.raises(LogError, match=message.format("training log")):
        FeatureEncoder.fit(build({"price": prices}, kind=TrainingLog))
    encoder = FeatureEncoder.fit(train)
    with pytest.raises(LogError, match=message.format("log")):
        encoder.encode(build({"price": prices}, kind=HeldOutLog))


def test_nan_in_a_table_is_refused(build):
    schema = build().schema
    strict = schema.features[0].model_copy(update={"fill": None})
    schema = schema.model_copy(update={"features": (strict, *schema.features[1:])})
    users = {"uid": [3, 5], "age": [None, 50.0]}
    with pytest.raises(LogError, match=r"feature 'age'.* in 1 of 2 rows of users"):
        FeatureEncoder.fit(build(users=users, schema=schema, kind=TrainingLog))


def test_a_task_without_positives_is_refused(build):
    # Like is defined on the clicks, rows 0, 2, 3 and 5, and here on three of them.
    log = build({"stars": [1.0, 5.0, 2.0, None, 5.0, 3.0]}, kind=TrainingLog)
    with pytest.raises(
        LogError, match=r"task 'like' has no positive among 3 defined of 6 training rows"
    ):
        FeatureEncoder.fit(log)


def test_tables_that_share_no_id_with_the_log_are_refused(build):
    with pytest.raises(LogError, match="no user id of the training log occurs in users"):
        FeatureEncoder.fit(build(users={"uid": [70], "age": [1.0]}, kind=TrainingLog))


def test_types_that_changed_since_training_are_named(train, build, held_out):
    encoder = FeatureEncoder.fit(train)
    with pytest.raises(LogError, match=r"feature 'tab', column 'tab': the vocabulary holds large"):
        encoder.encode(build({"tab": [1] * 6}, kind=HeldOutLog))
    items = {"vid": [1], "genre": [""], "title": [""]}
    with pytest.raises(LogError, match=r"item_id: the vocabulary holds large_string ids such as"):
        encoder.encode(build({"vid": [1] * 6}, items=items, kind=HeldOutLog))


def test_types_that_differ_between_training_and_history_are_named(train, history):
    rows = history.rows.set_column(2, "t", pa.array([1, 2]))
    with pytest.raises(LogError, match=r"feature 'tab': values are \['int64', 'large_string'\]"):
        FeatureEncoder.fit(train, TrainingLog(rows, history.schema))


def test_fractions_are_no_categories():
    with pytest.raises(LogError, match=r"feature 'x', column 'x': expected integer or string ids"):
        FeatureEncoder.fit(one_feature([0.5]))


def test_only_training_logs_are_fitted(build, train):
    for logs in ((build(kind=HeldOutLog),), (train, build(kind=HeldOutLog))):
        with pytest.raises(TypeError, match="fitting a FeatureEncoder needs a TrainingLog; receiv"):
            FeatureEncoder.fit(*logs)


def test_only_the_fitted_training_log_is_encoded(train, build, history):
    encoder = FeatureEncoder.fit(train, statistics=STATISTICS)
    with pytest.raises(
        TypeError, match=r"encoding needs a TrainingLog or a HeldOutLog; received I"
    ):
        encoder.encode(build(kind=InteractionLog))
    with pytest.raises(LogError, match="received a TrainingLog of 3 rows that the encoder was not"):
        encoder.encode(train.select(np.arange(3)))
    with pytest.raises(LogError, match="the log has another schema than the one"):
        encoder.encode(history)


def test_history_is_encoded_where_no_statistics_are_asked(train):
    history = train.select(np.array([1, 0]))
    encoded = FeatureEncoder.fit(train, history).encode(history)
    assert_array_equal(encoded.features["item_id"], [1, 2])
    with pytest.raises(LogError, match="received a TrainingLog of 2 rows that the encoder was not"):
        FeatureEncoder.fit(train, history, STATISTICS).encode(history)


def test_statistics_are_causal_in_training_and_frozen_outside(train, held_out):
    encoder = FeatureEncoder.fit(train, statistics=STATISTICS)
    statistics = encoder.statistics
    assert_array_equal(
        encoder.encode(train).features["statistics"], statistics.training_columns(train)
    )
    assert_array_equal(
        encoder.encode(held_out).features["statistics"], statistics.transform(held_out)
    )
    counts = encoder.encode(train).features["statistics"][:, 2]
    seen = np.expm1(counts * statistics.std[2] + statistics.mean[2])
    assert_allclose(seen, [0, 1, 0, 1, 2, 0], atol=1e-5)


def test_entity_tables(train, history):
    encoder = FeatureEncoder.fit(train, history)
    users = encoder.entity_table("user")
    # Users 3, 5 and 9 are in the table, 8 in training and 4 in the history.
    assert_array_equal(users.keys, [3, 4, 5, 8, 9])
    assert list(users.columns) == ["user_id", "age"]
    assert_array_equal(users.columns["user_id"], [0, 1, 2, 3, 4, 0])
    assert_allclose(users.columns["age"], np.array([0, -5, 0, 15, 0, 55]) / np.sqrt(75), rtol=1e-6)
    items = encoder.entity_table("item")
    assert items.keys.tolist() == ["a", "b", "c", "d"]
    assert_array_equal(
        items.columns["genre"], [[0, 0, 0], [0, 0, 0], [1, 0, 0], [2, 1, 0], [0, 0, 0]]
    )


def test_node_features_are_rows_of_the_entity_table(train, history):
    encoder = FeatureEncoder.fit(train, history)
    nodes = encoder.node_features("user")
    assert_array_equal(nodes["user_id"], [0, 1, 2, 3, 4])
    assert_allclose(nodes["age"], np.array([0, -5, 0, 15, 0]) / np.sqrt(75), rtol=1e-6)
    assert nodes["age"].dtype == np.float32


def test_entity_tables_take_the_latest_row_of_a_log_without_tables(build):
    ages = {"age": [31.0, 32.0, 81.0, 82.0, 33.0, 50.0], "ts": [10, 50, 30, 20, 40, 60]}
    log = build(ages, users=None, kind=TrainingLog)
    encoder = FeatureEncoder.fit(log)
    mean, std = encoder.scales["age"]
    users = encoder.entity_table("user")
    assert_array_equal(users.keys, [3, 5, 8])
    assert_allclose(users.columns["age"][1:] * std + mean, [32, 50, 81], rtol=1e-6)
    assert users.columns["age"][0] == 0


def test_history_fills_in_for_entities_that_training_does_not_show(build):
    ages = {"age": [31.0, 32.0, 81.0, 82.0, 33.0, 50.0]}
    log = build(ages, users=None, kind=TrainingLog)
    train, history = log.select(np.array([1, 0, 5])), log.select(np.array([2, 3, 4]))
    encoder = FeatureEncoder.fit(train, history)
    mean, std = encoder.scales["age"]
    assert_allclose(
        encoder.entity_table("user").columns["age"][1:] * std + mean, [32, 50, 82], rtol=1e-6
    )


def test_a_saved_encoder_is_the_same_encoder(train, history, held_out, tmp_path):
    encoder = FeatureEncoder.fit(train, history, STATISTICS)
    encoder.save(tmp_path / "encoder")
    loaded = FeatureEncoder.load(tmp_path / "encoder")
    assert loaded.schema == encoder.schema
    assert loaded.inputs == encoder.inputs
    assert loaded.fingerprint() == encoder.fingerprint()
    for log in (train, held_out):
        assert_same_columns(loaded.encode(log).features, encoder.encode(log).features)
    for side in ("user", "item"):
        one, other = encoder.entity_table(side), loaded.entity_table(side)
        assert one.keys.dtype == other.keys.dtype
        assert_array_equal(one.keys, other.keys)
        assert_same_columns(one.columns, other.columns)
        assert_same_columns(encoder.node_features(side), loaded.node_features(side))
    with pytest.raises(LogError, match="that the encoder was not fitted on"):
        loaded.encode(train.select(np.arange(3)))


def test_the_fingerprint_depends_on_rows_and_settings(train, history):
    one = FeatureEncoder.fit(train, history, STATISTICS).fingerprint()
    assert one == FeatureEncoder.fit(train, history, STATISTICS).fingerprint()
    assert one != FeatureEncoder.fit(train, None, STATISTICS).fingerprint()
    assert one != FeatureEncoder.fit(train, history).fingerprint()
    other = STATISTICS.model_copy(update={"prior": 21.0})
    assert one != FeatureEncoder.fit(train, history, other).fingerprint()


@pytest.fixture
def with_vectors(build):
    """A log with a vector of every item and one of every row."""
    schema = build().schema
    vectors = (
        Feature(name="cover", kind="vector", side="item", column="image", dim=3),
        Feature(name="mood", kind="vector", dim=2),
    )
    schema = schema.model_copy(update={"features": (*schema.features, *vectors)})
    covers = [[1.0, 2.0, -3.5], None, [0.0, 8.0, 4.0]]
    items = {
        "vid": ["c", "a", "b"],
        "genre": ["war|drama", "", "drama"],
        "title": ["C 3", "Ah", "Be"],
        "image": pa.array(covers, pa.list_(pa.float32(), 3)),
    }
    moods = [[1.0, -1.0], None, [2.0, 0.5], [3.0, 0.0], [0.0, 0.0], [4.0, 9.0]]
    return build({"mood": moods}, items=items, schema=schema, kind=TrainingLog)


def test_vectors_pass_through_unchanged(with_vectors):
    encoder = FeatureEncoder.fit(with_vectors)
    assert encoder.inputs[-2:] == (
        InputSpec("cover", "numeric", "item", 0, 3, vector=True),
        InputSpec("mood", "numeric", "context", 0, 2, vector=True),
    )
    assert not any(spec.vector for spec in encoder.inputs[:-2])
    assert set(encoder.scales) == {"age", "price"}
    assert not {"cover", "mood"} & set(encoder.vocabularies)
    features = encoder.encode(with_vectors).features
    # Items b, a, b, c, c, a; item a has no vector.
    a, b, c = [0, 0, 0], [0, 8, 4], [1, 2, -3.5]
    assert_array_equal(features["cover"], [b, a, b, c, c, a])
    assert_array_equal(features["mood"], [[1, -1], [0, 0], [2, 0.5], [3, 0], [0, 0], [4, 9]])
    assert features["cover"].dtype == features["mood"].dtype == np.float32
    assert_array_equal(encoder.entity_table("item").columns["cover"], [[0, 0, 0], a, b, c])
    # Encoded ids: a 1, b 2, c 3.
    assert_array_equal(encoder.node_features("item")["cover"], [[0, 0, 0], a, b, c])


def test_an_item_that_is_not_in_the_table_has_a_vector_of_zeros(with_vectors):
    rows = with_vectors.rows.set_column(1, "vid", pa.array(["c", "z", "b", "z", "a", "c"]))
    held_out = HeldOutLog(rows, with_vectors.schema, with_vectors.users, with_vectors.items)
    cover = FeatureEncoder.fit(with_vectors).encode(held_out).features["cover"]
    assert_array_equal(cover[:3], [[1, 2, -3.5], [0, 0, 0], [0, 8, 4]])


def test_vectors_in_the_rows_give_an_item_its_latest(with_vectors):
    covers = [[row, 0.5, -row] for row in range(6)]
    rows = with_vectors.rows.append_column("image", pa.array(covers))
    items = with_vectors.items.drop_columns(["image"])
    train = TrainingLog(rows, with_vectors.schema, with_vectors.users, items)
    cover = FeatureEncoder.fit(train).entity_table("item").columns["cover"]
    # The last rows of a, b and c are 5, 2 and 4.
    assert_array_equal(cover, [[0, 0, 0], [5, 0.5, -5], [2, 0.5, -2], [4, 0.5, -4]])


def test_a_saved_encoder_keeps_its_vectors(with_vectors, tmp_path):
    encoder = FeatureEncoder.fit(with_vectors)
    encoder.save(tmp_path)
    loaded = FeatureEncoder.load(tmp_path)
    assert loaded.inputs == encoder.inputs
    assert loaded.fingerprint() == encoder.fingerprint()
    one, other = (x.encode(with_vectors).features for x in (encoder, loaded))
    assert_same_columns(one, other)
    assert_same_columns(encoder.node_features("item"), loaded.node_features("item"))


def test_the_fingerprint_depends_on_the_vectors(with_vectors):
    items = with_vectors.items.set_column(
        3, "image", pa.array([[1.0, 2.0, -3.0], None, [0.0, 8.0, 4.0]])
    )
    other = TrainingLog(with_vectors.rows, with_vectors.schema, with_vectors.users, items)
    assert other.fingerprint() != with_vectors.fingerprint()
    one, two = (FeatureEncoder.fit(log).fingerprint() for log in (with_vectors, other))
    assert one != two


def test_a_vector_of_another_length_is_refused_in_tables_and_rows(with_vectors):
    images = pa.array([[1.0, 2.0, -3.0], None, [0.0, 8.0]])
    items = with_vectors.items.set_column(3, "image", images)
    wrong = TrainingLog(with_vectors.rows, with_vectors.schema, with_vectors.users, items)
    with pytest.raises(LogError, match=r"'cover': column 'image' of items holds a list of 2 val"):
        FeatureEncoder.fit(wrong)
    train = one_feature([[1.0], [2.0, 3.0]], kind="vector", dim=2)
    with pytest.raises(LogError, match=r"'x': column 'x' of the log holds a list of 1 values"):
        FeatureEncoder.fit(train).encode(train)


def test_no_feature_shares_the_vocabulary_of_a_vector(with_vectors):
    seen = Feature(name="seen", column="tab", vocabulary="mood")
    features = (*with_vectors.schema.features, seen)
    schema = with_vectors.schema.model_copy(update={"features": features})
    log = TrainingLog(with_vectors.rows, schema, with_vectors.users, with_vectors.items)
    with pytest.raises(LogError, match=r"feature 'seen': no vocabulary 'mood' to share"):
        FeatureEncoder.fit(log)


def test_an_encoder_of_another_version_is_refused(train, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tfmtl.data.feature_encoder.FORMAT_VERSION", 7)
        FeatureEncoder.fit(train).grow(train).save(tmp_path)
    with pytest.raises(FeatureEncoderError, match="encoder of format version 7; expected 1 or 2"):
        FeatureEncoder.load(tmp_path)


def test_a_damaged_encoder_is_refused(train, tmp_path):
    FeatureEncoder.fit(train).save(tmp_path)
    document = json.loads((tmp_path / "encoder.json").read_text())
    document["scales"]["age"][0] += 1
    (tmp_path / "encoder.json").write_text(json.dumps(document))
    with pytest.raises(FeatureEncoderError, match=r"damaged: checksum .*: save the encoder aga"):
        FeatureEncoder.load(tmp_path)
    with pytest.raises(FeatureEncoderError, match=r"cannot read encoder\.json"):
        FeatureEncoder.load(tmp_path / "none")


def bucket(text, buckets):
    return 1 + int(tf.strings.to_hash_bucket_fast(text, buckets))


def with_buckets(rows, kind=TrainingLog):
    """A log of hashed devices, which two features share, and brands with three OOV rows."""
    schema = Schema(
        tasks=[Task(name="click")],
        features=[
            Feature(name="device", hash_buckets=50),
            Feature(name="past", kind="sequence", vocabulary="device", max_length=2),
            Feature(name="brand", min_count=2, oov_buckets=3),
        ],
    )
    return kind(pa.table(rows), schema)


BUCKETS = {
    "user_id": [1, 1, 2, 2],
    "item_id": [5, 6, 5, 6],
    "device": [7, 8, None, 7],
    "past": [[8, 9, 7], [], [9], None],
    "brand": ["b", "rare", "b", None],
    "click": [1, 0, 1, 0],
}


def test_buckets_take_the_place_of_a_vocabulary_or_stand_ahead_of_it():
    train = with_buckets(BUCKETS)
    encoder = FeatureEncoder.fit(train)
    sizes = {spec.name: spec.vocabulary_size for spec in encoder.inputs}
    # One row of missing devices and 50 buckets; missing brands, three buckets and brand b.
    assert sizes == {"user_id": 3, "item_id": 3, "device": 51, "past": 51, "brand": 5}
    features = encoder.encode(train).features
    seven, nine = bucket("7", 50), bucket("9", 50)
    assert_array_equal(features["device"], [seven, bucket("8", 50), 0, seven])
    assert_array_equal(features["past"], [[nine, seven], [0, 0], [nine, 0], [0, 0]])
    assert_array_equal(features["brand"], [4, bucket("rare", 3), 4, 0])


def test_ids_that_training_did_not_show_have_buckets():
    encoder = FeatureEncoder.fit(with_buckets(BUCKETS))
    held_out = with_buckets(
        BUCKETS | {"device": [70, 71, 72, 73], "brand": ["new", "rare", "", None]}, HeldOutLog
    )
    features = encoder.encode(held_out).features
    assert_array_equal(features["device"], [bucket(str(n), 50) for n in (70, 71, 72, 73)])
    assert_array_equal(features["brand"], [bucket(b, 3) for b in ("new", "rare", "")] + [0])


def test_a_hashed_feature_keeps_the_type_of_its_ids(tmp_path):
    encoder = FeatureEncoder.fit(with_buckets(BUCKETS))
    texts = with_buckets(BUCKETS | {"device": ["7", "8", None, "7"]}, HeldOutLog)
    encoder.save(tmp_path)
    for own in (encoder, FeatureEncoder.load(tmp_path)):
        with pytest.raises(LogError, match=r"feature 'device', .* holds int64 ids; received large"):
            own.encode(texts)
    strings = BUCKETS | {"device": ["a", "b", None, "a"], "past": [["a"], [], None, ["b"]]}
    FeatureEncoder.fit(with_buckets(strings)).save(tmp_path)
    loaded = FeatureEncoder.load(tmp_path)
    assert loaded.vocabularies["device"].type == pa.large_string()


def test_hashed_ids_of_two_types_are_refused():
    history = with_buckets(BUCKETS | {"device": ["7", "8", "9", "7"]})
    with pytest.raises(LogError, match=r"feature 'device': values are \['int64', 'large_string'\]"):
        FeatureEncoder.fit(with_buckets(BUCKETS), history)


def test_a_saved_encoder_keeps_its_buckets(tmp_path):
    train = with_buckets(BUCKETS)
    encoder = FeatureEncoder.fit(train)
    encoder.save(tmp_path)
    assert json.loads((tmp_path / "encoder.json").read_text())["format_version"] == 2
    loaded = FeatureEncoder.load(tmp_path)
    assert loaded.fingerprint() == encoder.fingerprint()
    assert loaded.inputs == encoder.inputs
    assert_same_columns(loaded.encode(train).features, encoder.encode(train).features)


def test_what_version_1_reads_rightly_is_still_of_version_1(train, tmp_path):
    FeatureEncoder.fit(train, statistics=STATISTICS).save(tmp_path)
    assert json.loads((tmp_path / "encoder.json").read_text())["format_version"] == 1
    FeatureEncoder.fit(train).grow(train).save(tmp_path)
    assert json.loads((tmp_path / "encoder.json").read_text())["format_version"] == 2


@pytest.fixture
def next_night(build):
    """Rows of user 4, item 0a and tab w, which are new, without user 8 and item c."""
    rows = {
        "uid": [4, 4, 3, 5, 3, 5],
        "vid": ["0a", "a", "0a", "b", "a", "b"],
        "tab": ["w", "x", "w", "y", None, "z"],
        "price": [10.0, 20.0, 30.0, 40.0, 50.0, 60.0],
    }
    users = {"uid": [4, 3, 5], "age": [10.0, 20.0, 30.0]}
    items = {"vid": ["0a", "a", "b"], "genre": ["art", "", "drama"], "title": ["Zz", "Ah", "Be"]}
    return build(rows, users=users, items=items, kind=TrainingLog)


def test_a_grown_encoder_keeps_encoded_ids_and_scales(train, next_night):
    encoder = FeatureEncoder.fit(train)
    grown = encoder.grow(next_night)
    assert grown.vocabularies["user_id"].values.tolist() == [3, 5, 8, 4]
    assert grown.vocabularies["item_id"].values.tolist() == ["a", "b", "c", "0a"]
    assert grown.vocabularies["genre"].values.tolist() == ["drama", "war", "art"]
    assert grown.vocabularies["tab"].values.tolist() == ["x", "y", "z", "w"]
    assert grown.scales == encoder.scales
    features = grown.encode(next_night).features
    assert_array_equal(features["user_id"], [4, 4, 1, 2, 1, 2])
    assert_array_equal(features["tab"], [4, 1, 4, 2, 0, 3])
    # Scaled as prices 1 to 6 of the first night: mean 3.5, deviation sqrt(35 / 12).
    prices = (np.array([10, 20, 30, 40, 50, 60]) - 3.5) / np.sqrt(35 / 12)
    assert_allclose(features["price"], prices, rtol=1e-6)


def test_held_out_rows_of_old_ids_are_encoded_as_before(train, held_out, next_night):
    encoder = FeatureEncoder.fit(train)
    old = encoder.encode(held_out).features
    new = encoder.grow(next_night).encode(held_out).features
    assert_same_columns(new, old)


def test_a_grown_encoder_knows_the_log_it_was_grown_by(train, next_night):
    encoder = FeatureEncoder.fit(train)
    grown = encoder.grow(next_night, history=train)
    assert grown.fingerprint() != encoder.fingerprint()
    assert grown.grown_from == encoder.fingerprint()
    assert (grown.train_fingerprint, grown.history_fingerprint) == (
        next_night.fingerprint(),
        train.fingerprint(),
    )
    assert encoder.vocabularies["tab"].size == 4
    FeatureEncoder.fit(train).grow(next_night).encode(next_night)
    with pytest.raises(LogError, match="that the encoder was not fitted on"):
        encoder.grow(next_night).encode(train)


def test_growth_counts_new_ids_in_the_new_logs(build):
    schema = build().schema
    rare = schema.features[3].model_copy(update={"min_count": 2})
    features = (*schema.features[:3], rare, schema.features[4])
    schema = schema.model_copy(update={"features": features})
    encoder = FeatureEncoder.fit(build(schema=schema, kind=TrainingLog))
    # Tab x is seen three times, y and z once.
    assert encoder.vocabularies["tab"].values.tolist() == ["x"]
    night = build({"tab": ["y", "w", "w", "w", None, None]}, schema=schema, kind=TrainingLog)
    # Once more is not twice in the new log; with the first night as history it is.
    assert encoder.grow(night).vocabularies["tab"].values.tolist() == ["x", "w"]
    history = build(schema=schema, kind=TrainingLog)
    assert encoder.grow(night, history).vocabularies["tab"].values.tolist() == ["x", "w", "y"]


def test_hashed_features_do_not_grow():
    encoder = FeatureEncoder.fit(with_buckets(BUCKETS))
    night = with_buckets(BUCKETS | {"device": [1, 2, 3, 4], "brand": ["new"] * 4})
    grown = encoder.grow(night)
    assert grown.vocabularies["device"].size == 51
    assert grown.vocabularies["brand"].values.tolist() == ["b", "new"]
    assert_array_equal(grown.encode(night).features["brand"], [5] * 4)


def test_statistics_of_a_grown_encoder_are_new_on_the_old_scale(train, next_night):
    encoder = FeatureEncoder.fit(train, statistics=STATISTICS)
    grown = encoder.grow(next_night)
    assert_array_equal(grown.statistics.mean, encoder.statistics.mean)
    assert_array_equal(grown.statistics.std, encoder.statistics.std)
    features = grown.encode(next_night).features["statistics"]
    # Column 2 counts the user's rows before each: 4, 4, 3, 5, 3, 5 at times 10, 20, 20, 30, 40, 50.
    seen = np.expm1(features[:, 2] * encoder.statistics.std[2] + encoder.statistics.mean[2])
    assert_allclose(seen, [0, 1, 0, 0, 1, 1], atol=1e-5)


def test_entities_that_the_new_log_does_not_show_keep_what_rows_said_of_them(build):
    ages = {"age": [31.0, 32.0, 81.0, 82.0, 33.0, 50.0]}
    encoder = FeatureEncoder.fit(build(ages, users=None, kind=TrainingLog))
    rows = {"uid": [4, 4, 3, 3, 4, 4], "age": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
    grown = encoder.grow(build(rows, users=None, kind=TrainingLog))
    mean, std = encoder.scales["age"]
    users = grown.entity_table("user")
    assert_array_equal(users.keys, [3, 4, 5, 8])
    # Users 3 and 4 are in the new log, 5 and 8 in the old one alone.
    assert_allclose(users.columns["age"][1:] * std + mean, [4, 6, 50, 82], rtol=1e-5)
    assert_array_equal(users.columns["user_id"], [0, 1, 4, 2, 3])
    assert_allclose(grown.node_features("user")["age"] * std + mean, [mean, 4, 50, 82, 6], 1e-5)


def test_a_saved_grown_encoder_keeps_the_order_of_its_ids(train, next_night, tmp_path):
    grown = FeatureEncoder.fit(train, statistics=STATISTICS).grow(next_night)
    grown.save(tmp_path)
    loaded = FeatureEncoder.load(tmp_path)
    assert loaded.vocabularies["item_id"].values.tolist() == ["a", "b", "c", "0a"]
    assert loaded.grown_from == grown.grown_from
    assert loaded.fingerprint() == grown.fingerprint()
    assert_same_columns(loaded.encode(next_night).features, grown.encode(next_night).features)


def test_growth_refuses_what_fitting_refuses_and_another_schema(train, history, held_out):
    encoder = FeatureEncoder.fit(train)
    with pytest.raises(TypeError, match="growing a FeatureEncoder needs a TrainingLog; received H"):
        encoder.grow(held_out)
    with pytest.raises(LogError, match="the log has another schema than the one the encoder"):
        encoder.grow(history)


def test_growth_by_ids_of_another_type_is_named(train, build):
    encoder = FeatureEncoder.fit(train)
    night = build({"tab": [1, 2, 3, 4, 5, 6]}, kind=TrainingLog)
    with pytest.raises(LogError, match=r"feature 'tab': the vocabulary holds large_string ids"):
        encoder.grow(night)


def test_an_emptied_vocabulary_of_strings_stays_one_of_strings(tmp_path):
    encoder = FeatureEncoder.fit(one_feature(["a", "b"], min_count=2))
    encoder.save(tmp_path)
    loaded = FeatureEncoder.load(tmp_path)
    assert loaded.vocabularies["x"].type == pa.large_string()
    assert loaded.fingerprint() == encoder.fingerprint()
