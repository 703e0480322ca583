import numpy as np
import pytest

from tfmtl.schema import Feature, Positive, Schema, SchemaError, Task

CLICK = {"name": "click"}
FULL = """
tasks:
- name: click
- name: love
  column: rating
  positive:
    operator: '>='
    value: 4.0
  order: 1
  parent: click
  weight: 0.5
features:
- name: genre
  kind: multi_categorical
  side: item
  column: genres
  min_count: 3
  max_length: 5
  separator: '|'
- name: age
  kind: numeric
  side: user
  transform: log
  fill: 0.0
- name: watched
  kind: sequence
  side: user
  vocabulary: item_id
user: uid
item: vid
time: ts
title: name
"""


def test_yaml_round_trip_keeps_every_field():
    schema = Schema.from_yaml(FULL)
    assert schema.to_yaml() == FULL.lstrip("\n")
    assert Schema.from_yaml(schema.to_yaml()) == schema
    assert schema.tasks[1] == Task(
        name="love",
        column="rating",
        positive=Positive(operator=">=", value=4),
        order=1,
        parent="click",
        weight=0.5,
    )


def test_yaml_is_read_from_a_file(tmp_path):
    path = tmp_path / "log.yaml"
    path.write_text(FULL, encoding="utf-8")
    assert Schema.from_yaml(path) == Schema.from_yaml(FULL)
    path.write_text("tasks: [", encoding="utf-8")
    with pytest.raises(SchemaError, match=r"log\.yaml: while parsing"):
        Schema.from_yaml(path)


def test_defaults_are_left_out_of_the_yaml():
    assert Schema(tasks=[CLICK]).to_dict() == {"tasks": [CLICK]}


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("==", [0, 0, 1, 0]),
        ("!=", [1, 1, 0, 1]),
        (">", [0, 0, 0, 1]),
        (">=", [0, 0, 1, 1]),
        ("<", [1, 1, 0, 0]),
        ("<=", [1, 1, 1, 0]),
    ],
)
def test_positive_operators(operator, expected):
    labels = Positive(operator=operator, value=3)(np.array([1.0, 2.5, 3.0, 7.0]))
    assert labels.dtype == np.float32
    assert labels.tolist() == expected


def test_positive_compares_strings():
    positive = Positive(operator="==", value=" 50000+.")
    assert positive(np.array([" 50000+.", "- 50000."], object)).tolist() == [1.0, 0.0]


def test_accessors():
    schema = Schema.from_yaml(FULL)
    assert schema.task_names == ("click", "love")
    assert schema.task("love").source == "rating"
    assert schema.task("click").source == "click"
    assert [feature.name for feature in schema.features_of("user")] == ["age", "watched"]
    assert schema.features_of("context") == ()
    assert schema.has_ids
    assert not Schema(tasks=[CLICK], user=None, item=None).has_ids
    with pytest.raises(SchemaError, match=r"no task 'buy'; expected one of \['click', 'love'\]"):
        schema.task("buy")


@pytest.mark.parametrize(
    ("kind", "is_list", "width"),
    [
        ("categorical", False, 1),
        ("numeric", False, 1),
        ("multi_categorical", True, 5),
        ("text", True, 5),
        ("sequence", True, 5),
    ],
)
def test_width_by_kind(kind, is_list, width):
    feature = Feature(name="x", kind=kind, max_length=5, vocabulary="item_id")
    assert (feature.is_list, feature.width, feature.source) == (is_list, width, "x")


def test_a_vector_is_as_wide_as_its_lists_and_holds_no_ids():
    vector = Feature(name="x", kind="vector", dim=384)
    assert (vector.is_list, vector.has_vocabulary, vector.width) == (False, False, 384)
    assert [Feature(name="x", kind=kind).has_vocabulary for kind in ("numeric", "text")] == [
        False,
        True,
    ]


def features(*given):
    return {"tasks": [CLICK], "features": list(given)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"tasks": []}, "at least one task; received none"),
        ({"tasks": [CLICK, CLICK]}, r"distinct task names; repeated: \['click'\]"),
        (features({"name": "a"}, {"name": "a"}), r"distinct feature names; repeated: \['a'\]"),
        (
            {"tasks": [CLICK, {"name": "buy", "parent": "clik"}]},
            r"task 'buy': parent 'clik' is not among \['click', 'buy'\]",
        ),
        (
            {"tasks": [{"name": "a", "parent": "b"}, {"name": "b", "parent": "a"}]},
            "task 'a': its parents form a cycle",
        ),
        ({"tasks": [{"name": "a", "parent": "a"}]}, "task 'a': its parents form a cycle"),
        (
            {"tasks": [CLICK], "user": None},
            "both user and item columns or neither; received user=None, item='item_id'",
        ),
        (
            {**features({"name": "a", "side": "item"}), "user": None, "item": None},
            r"context features only; received sides \['item'\]",
        ),
        (
            features({"name": "a", "column": "click"}),
            r"features \['a'\] are label columns; remove them",
        ),
        (features({"name": "user_id"}), "feature name 'user_id' is reserved; rename"),
        (features({"name": "graph"}), "feature name 'graph' is reserved"),
        (features({"name": "chosen_tasks"}), "feature name 'chosen_tasks' is reserved"),
        (features({"name": "macro_version"}), "feature name 'macro_version' is reserved"),
        (
            features({"name": "a", "min_count": 0}),
            "feature 'a': expected min_count and max_length of at least 1; received 0 and 8",
        ),
        (features({"name": "a", "max_length": 0}), "at least 1; received 1 and 0"),
        (
            features({"name": "a", "kind": "vector"}),
            "vector feature 'a': expected dim of at least 1; received None: set dim= to the length",
        ),
        (features({"name": "a", "kind": "vector", "dim": 0}), "dim of at least 1; received 0"),
        (
            features({"name": "a", "kind": "numeric", "dim": 3}),
            "feature 'a': dim is for vectors; received dim=3 with kind 'numeric': set kind=",
        ),
        (features({"name": "a", "kind": "image"}), "Input should be 'categorical', 'numeric'"),
        (features({"name": "a", "side": "shop"}), "Input should be 'user', 'item' or 'context'"),
        ({"tasks": [{**CLICK, "weight": -1}]}, "finite weight >= 0; received -1.0"),
        ({"tasks": [{**CLICK, "weight": float("inf")}]}, "finite weight >= 0; received inf"),
        (
            {"tasks": [{**CLICK, "positive": {"operator": "~", "value": 1}}]},
            "Input should be '==', '!='",
        ),
        ({"tasks": [{**CLICK, "colum": "x"}]}, "colum\n.*Extra inputs are not permitted"),
        ({}, "tasks\n.*Field required"),
    ],
)
def test_refuses(data, message):
    with pytest.raises(ValueError, match=message):
        Schema.model_validate(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: [", "schema: while parsing"),
        ("just words", "schema: 1 validation error"),
        ("", "schema: 1 validation error"),
        ("tasks: []", "schema: (.|\n)*at least one task; received none"),
    ],
)
def test_yaml_errors_are_schema_errors(text, message):
    with pytest.raises(SchemaError, match=message):
        Schema.from_yaml(text)


def test_is_frozen():
    schema = Schema(tasks=[CLICK])
    with pytest.raises(ValueError, match="frozen"):
        schema.user = "uid"


def test_buckets_survive_the_yaml():
    features = [
        {"name": "device", "hash_buckets": 1000},
        {"name": "brand", "min_count": 5, "oov_buckets": 16},
        {"name": "other_device", "vocabulary": "device"},
    ]
    schema = Schema(tasks=[CLICK], features=features)
    assert Schema.from_yaml(schema.to_yaml()) == schema
    assert schema.to_dict()["features"] == features


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hash_buckets": 0}, "expected hash_buckets from 1, or none, .* hash_buckets=0"),
        ({"hash_buckets": 2**31 - 1}, "both up to 2147483646; received hash_buckets=2147483647"),
        ({"oov_buckets": -1, "min_count": 2}, "oov_buckets from 0.* oov_buckets=-1"),
        ({"hash_buckets": 9, "kind": "numeric"}, "buckets are for ids; .* kind 'numeric': leave"),
        (
            {"oov_buckets": 9, "kind": "vector", "dim": 2},
            "buckets are for ids; .* kind 'vector': leave them out, or declare",
        ),
        (
            {"hash_buckets": 9, "vocabulary": "brand"},
            "beside vocabulary='brand': set them on the feature that owns the vocabulary",
        ),
        (
            {"hash_buckets": 9, "vocabulary": "item_id"},
            "nodes of graphs may not collide; leave vocabulary='item_id' out and hash the column",
        ),
        ({"hash_buckets": 9, "min_count": 2}, "hashing knows no vocabulary .* with min_count=2"),
        (
            {"hash_buckets": 9, "oov_buckets": 2, "min_count": 2},
            "hashing knows no vocabulary.*hash_buckets=9 and oov_buckets=2",
        ),
        ({"oov_buckets": 4}, "nothing would train the rows of the others; .* set min_count to 2"),
    ],
)
def test_buckets_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=f"feature 'x': .*{message}"):
        Feature(name="x", **options)
