import numpy as np
import pytest
import tensorflow as tf

from tfmtl.data import InputSpec
from tfmtl.layers import FeatureEmbedding, NodeFeatures
from tfmtl.testing import run_layer_test

SPECS = [
    InputSpec("user_id", "categorical", "user", 3, 1),
    InputSpec("age", "categorical", "user", 5, 1),
    InputSpec("tags", "list", "user", 4, 2),
    InputSpec("income", "numeric", "user", 0, 1),
    InputSpec("item_id", "categorical", "item", 9, 1),
]
COLUMNS = {
    "user_id": np.array([0, 1, 2]),
    "age": np.array([0, 4, 2]),
    "tags": np.array([[0, 0], [3, 1], [2, 0]]),
    "income": np.array([0.0, -1.5, 2.5]),
}


@pytest.fixture
def embedding():
    layer = FeatureEmbedding(SPECS, dim=2)
    layer.build(None)
    return layer


def test_gathers_packed_features_by_id(embedding):
    nodes = NodeFeatures.from_columns(embedding, "user", COLUMNS)
    packed = nodes(tf.constant([2, 0, 2]))
    # Offsets: padding 0, user_id 1-3, age 4-8, tags 9-12.
    assert packed.ids.numpy().tolist() == [[3, 6], [1, 4], [3, 6]]
    assert packed.lists.numpy().tolist() == [[11, 0], [0, 0], [11, 0]]
    assert packed.numeric.numpy().tolist() == [[2.5], [0.0], [2.5]]


def test_equals_embedding_the_row(embedding):
    nodes = NodeFeatures.from_columns(embedding, "user", COLUMNS)
    ids = tf.constant([1, 2])
    rows = {name: tf.constant(column[[1, 2]]) for name, column in COLUMNS.items()}
    np.testing.assert_array_equal(embedding.embed(nodes(ids), "user"), embedding(rows, side="user"))


def test_vectors_are_numbers_side_by_side():
    specs = [
        InputSpec("price", "numeric", "item", 0, 1),
        InputSpec("cover", "numeric", "item", 0, 3, vector=True),
    ]
    layer = FeatureEmbedding(specs, dim=2)
    layer.build(None)
    columns = {
        "price": np.array([0.0, 0.5]),
        "cover": np.array([[0.0, 0.0, 0.0], [1.0, -2.0, 4.0]]),
    }
    packed = NodeFeatures.from_columns(layer, "item", columns)(tf.constant([1]))
    assert packed.numeric.numpy().tolist() == [[0.5, 1.0, -2.0, 4.0]]
    assert layer.width("item") == 4


def test_a_side_of_ids_alone(embedding):
    nodes = NodeFeatures.from_columns(embedding, "item", {"item_id": np.arange(9)})
    packed = nodes(tf.constant([8]))
    assert [part.shape.as_list() for part in packed] == [[1, 1], [1, 0], [1, 0]]


def test_tables_are_frozen_and_saved(embedding):
    nodes = NodeFeatures.from_columns(embedding, "user", COLUMNS)
    assert nodes.trainable_weights == []
    assert [w.shape.as_list() for w in nodes.non_trainable_weights] == [[3, 2], [3, 2], [3, 1]]


def test_as_a_layer():
    def factory():
        return NodeFeatures(4, num_ids=2, num_list_ids=3, num_numeric=1)

    packed = run_layer_test(factory, tf.constant([0, 3, 1]))
    assert packed.lists.shape == (3, 3)


def test_names_the_missing_columns(embedding):
    with pytest.raises(ValueError, match=r"lacks the features \['income'\]"):
        NodeFeatures.from_columns(
            embedding, "user", {name: COLUMNS[name] for name in ("user_id", "age", "tags")}
        )
