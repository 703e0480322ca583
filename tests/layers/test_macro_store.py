import numpy as np
import pytest
import tensorflow as tf

from tests.graph.macro_logs import random_stores
from tfmtl.graph import MacroConfig, macro_graph_of_stores
from tfmtl.layers import MacroRows, MacroStore

SCORES = np.array([0, 1, 2, 2.5], np.float32)
USERS, ITEMS = 20, 15


@pytest.fixture(scope="module")
def graph():
    whole, _ = random_stores(1, USERS, ITEMS, 90, times=50)
    some, _ = random_stores(2, USERS, ITEMS, 40, times=50)
    return macro_graph_of_stores(
        whole,
        SCORES,
        MacroConfig(user_nodes=3, item_nodes=4, recent=5),
        partial=[lambda: some, lambda: whole],
    )


@pytest.fixture(scope="module")
def store(graph):
    return MacroStore(graph)


def batch(versions=None):
    features = {
        "user_id": tf.constant([3, 19, 0, 3], tf.int32),
        "item_id": tf.constant([14, 1, 2, 0], tf.int32),
    }
    if versions is not None:
        features["macro_version"] = tf.constant(versions, tf.int32)
    return features


def tables_of(graph, users, items, versions):
    """The rows that NumPy indexes, cut where `MacroTables` joined them."""
    user_rows = graph.user_rows[versions, users].astype(np.float32)
    item_rows = graph.item_rows[versions, items].astype(np.float32)
    item_bits = graph.recent_item_behaviors[versions, users]
    user_bits = graph.recent_user_behaviors[versions, items]
    return MacroRows(
        # Five columns of macro items, four of macro users, two tasks.
        user_items=user_rows[:, :5],
        user_users=user_rows[:, 5:9],
        item_users=item_rows[:, :4],
        item_items=item_rows[:, 4:9],
        user_preferences=user_rows[:, 9:].reshape(-1, 2, 5),
        item_preferences=item_rows[:, 9:].reshape(-1, 2, 4),
        recent_items=graph.recent_items[versions, users],
        recent_item_behaviors=item_bits.astype(np.int32),
        recent_item_scores=np.log1p(graph.scores)[item_bits],
        recent_users=graph.recent_users[versions, items],
        recent_user_behaviors=user_bits.astype(np.int32),
        recent_user_scores=np.log1p(graph.scores)[user_bits],
        user_group=graph.user_groups[versions, users],
        item_group=graph.item_groups[versions, items],
    )


def assert_rows(received, expected):
    for name, part in received._asdict().items():
        np.testing.assert_array_equal(part, getattr(expected, name), err_msg=name)
        assert part.dtype in (tf.float32, tf.int32)
        assert part.dtype == np.asarray(getattr(expected, name)).dtype


def test_a_row_reads_its_own_version(graph, store):
    features = batch([2, 1, 1, 0])
    expected = tables_of(graph, features["user_id"], features["item_id"], [2, 1, 1, 0])
    assert_rows(store(features), expected)
    # Version 1 is of other rows, so that its tables differ.
    assert (store(batch([0] * 4)).user_items[1] != store(features).user_items[1]).numpy().any()


def test_rows_without_a_version_read_the_first(graph, store):
    features = batch()
    expected = tables_of(graph, features["user_id"], features["item_id"], [0] * 4)
    assert_rows(store(features), expected)


def test_unknown_ids_have_rows_of_zeros(store):
    for versions in ([0] * 4, [1] * 4, [2] * 4):
        rows = store(batch(versions))
        for name, part in rows._asdict().items():
            if name.startswith("user_") or name.startswith("recent_item"):
                assert not part[2].numpy().any(), name
            else:
                assert not part[3].numpy().any(), name
        assert rows.user_items[0].numpy().any()


def test_a_store_of_one_version_ignores_versions(graph):
    scored = MacroStore(graph.scored_version())
    features = batch([2, 1, 1, 0])
    expected = tables_of(graph, features["user_id"], features["item_id"], [0] * 4)
    assert_rows(scored(features), expected)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_works_in_compiled_functions(graph, store, jit_compile):
    features = batch([2, 1, 1, 0])
    compiled = tf.function(store, jit_compile=jit_compile)
    expected = tables_of(graph, features["user_id"], features["item_id"], [2, 1, 1, 0])
    assert_rows(compiled(features), expected)


@pytest.mark.parametrize("dtype", [tf.int64, tf.int32])
def test_ids_may_be_of_either_width(graph, store, dtype):
    features = {name: tf.cast(ids, dtype) for name, ids in batch([1] * 4).items()}
    expected = tables_of(graph, features["user_id"], features["item_id"], [1] * 4)
    assert_rows(store(features), expected)


def test_shapes_are_static(store):
    specs = {
        name: tf.TensorSpec([None], tf.int32) for name in ("user_id", "item_id", "macro_version")
    }
    rows = tf.function(store).get_concrete_function(specs).structured_outputs
    assert rows.user_items.shape.as_list() == [None, 5]
    assert rows.item_preferences.shape.as_list() == [None, 2, 4]
    assert rows.recent_user_scores.shape.as_list() == [None, 5]


def test_tables_are_no_trainable_weights(store):
    with tf.GradientTape() as tape:
        store(batch())
    assert tape.watched_variables() == ()


def test_a_graph_from_disk_makes_the_same_store(graph, store, tmp_path):
    graph.save(tmp_path / "macro")
    loaded = MacroStore(type(graph).load(tmp_path / "macro"))
    assert_rows(loaded(batch([1, 2, 0, 1])), store(batch([1, 2, 0, 1])))


def test_refuses_a_batch_without_ids(store):
    with pytest.raises(
        ValueError, match=r"lacks \['item_id'\], by which .*has \['tab', 'user_id'\]"
    ):
        store({"user_id": tf.constant([1]), "tab": tf.constant([1])})
    with pytest.raises(ValueError, match=r"lacks \['user_id', 'item_id'\]"):
        store({})
