import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import NodeStates

TABLES = {
    "interaction/user": np.array([[0, 0], [1, 2], [3, 5]], np.float32),
    "item_similarity/item": np.array([[7, 8], [9, 4]], np.float32),
}


def test_looks_up_users_and_items():
    features = {"user_id": tf.constant([2, 0]), "item_id": tf.constant([1, 1])}
    received = NodeStates(TABLES)(features)
    assert received["user_id"] is features["user_id"]
    assert received["states"]["interaction/user"].numpy().tolist() == [[3, 5], [0, 0]]
    assert received["states"]["item_similarity/item"].numpy().tolist() == [[9, 4], [9, 4]]


def test_leaves_the_batch_as_it_was():
    features = {"user_id": tf.constant([2]), "item_id": tf.constant([1])}
    NodeStates(TABLES)(features)
    assert sorted(features) == ["item_id", "user_id"]


def test_tables_are_frozen_variables():
    states = NodeStates(TABLES)
    assert len(states.variables) == 2
    assert states.trainable_variables == ()


def test_works_in_a_pipeline():
    rows = {"user_id": np.array([2, 1, 0]), "item_id": np.array([0, 1, 1])}
    dataset = tf.data.Dataset.from_tensor_slices(rows).batch(2).map(NodeStates(TABLES))
    received = [batch["states"]["interaction/user"].numpy() for batch in dataset]
    assert np.concatenate(received).tolist() == [[3, 5], [1, 2], [0, 0]]


@pytest.mark.parametrize(
    ("key", "table", "shape"),
    [("interaction/users", np.zeros([2, 2]), r"\(2, 2\)"), ("x/user", np.zeros(2), r"\(2,\)")],
)
def test_refuses_other_tables(key, table, shape):
    with pytest.raises(ValueError, match=f"received '{key}' of shape {shape}"):
        NodeStates({key: table})
