from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.data import InputSpec
from tfmtl.layers import FeatureEmbedding
from tfmtl.testing import run_layer_test

USER = InputSpec("user_id", "categorical", "user", 4, 1, "user_id")
ITEM = InputSpec("item_id", "categorical", "item", 3, 1, "item_id")
RECENT = InputSpec("recent", "list", "user", 3, 4, "item_id")
HOUR = InputSpec("hour", "categorical", "context", 2, 1)
PRICE = InputSpec("price", "numeric", "context", 0, 1)
RATES = InputSpec("statistics", "numeric", "context", 0, 2)

# Rows: padding 0; users 1-4; items 5-7 (OOV 5); hours 8-9. Row r is [r, 100 r].
TABLE = np.stack([np.arange(10), 100 * np.arange(10)], axis=1).astype(np.float32)
BATCH = {
    "user_id": tf.constant([3, 0]),
    "item_id": tf.constant([2, 1]),
    "recent": tf.constant([[1, 2, 0, 0], [0, 0, 0, 0]]),
    "hour": tf.constant([1, 0]),
    "price": tf.constant([2.5, -1.0]),
    "statistics": tf.constant([[0.1, 0.2], [0.3, 0.4]]),
}


@pytest.fixture
def embedding():
    layer = FeatureEmbedding([USER, ITEM, RECENT, HOUR, PRICE, RATES], dim=2)
    layer.build(None)
    layer.set_weights([TABLE])
    return layer


def test_one_row_per_id_and_one_for_padding(embedding):
    assert embedding.num_rows == 1 + 4 + 3 + 2


def test_lists_share_the_vocabulary_and_skip_padding(embedding):
    # User 3 is row 1 + 3 = 4, user 0 row 1. Recent items 1 and 2 are rows 6 and 7, mean 6.5; the
    # second list is empty.
    expected = [[4, 400, 6.5, 650], [1, 100, 0, 0]]
    np.testing.assert_allclose(embedding(BATCH, side="user"), expected)


def test_the_same_id_is_one_embedding_in_both_places(embedding):
    # Items 2 and 1 are rows 7 and 6, the same that the list found.
    np.testing.assert_allclose(embedding(BATCH, side="item"), [[7, 700], [6, 600]])


def test_numbers_pass_through_in_declaration_order(embedding):
    expected = [[9, 900, 2.5, 0.1, 0.2], [8, 800, -1, 0.3, 0.4]]
    np.testing.assert_allclose(embedding(BATCH), expected, rtol=1e-6)


@pytest.mark.parametrize(("side", "width"), [("user", 4), ("item", 2), ("context", 5)])
def test_width_is_that_of_the_output(embedding, side, width):
    assert embedding.width(side) == embedding(BATCH, side=side).shape[1] == width


def test_packed_features_give_the_same_embeddings(embedding):
    packed = embedding.pack({name: column.numpy() for name, column in BATCH.items()}, "user")
    assert packed.ids.numpy().tolist() == [[4], [1]]
    assert packed.lists.numpy().tolist() == [[6, 7, 0, 0], [0, 0, 0, 0]]
    assert packed.numeric.shape == (2, 0)
    np.testing.assert_allclose(embedding.embed(packed, "user"), embedding(BATCH, side="user"))


@pytest.mark.parametrize("first", [RECENT, ITEM])
def test_a_shared_vocabulary_does_not_depend_on_the_order(first):
    second = ITEM if first is RECENT else RECENT
    layer = FeatureEmbedding([first, second], dim=2)
    assert layer.num_rows == 1 + 3
    item = layer.pack({"item_id": np.array([2])}, "item").ids
    assert item.numpy().tolist() == [[3]]


def test_a_side_of_numbers_alone():
    layer = FeatureEmbedding([USER, RATES], dim=2)
    np.testing.assert_allclose(layer(BATCH), BATCH["statistics"])
    assert tf.function(lambda batch: layer(batch))(BATCH).shape == (2, 2)


def test_a_side_of_lists_alone():
    layer = FeatureEmbedding([RECENT], dim=2)
    layer.build(None)
    layer.set_weights([np.array([[50, 60], [7, 7], [1, 2], [3, 6]])])
    np.testing.assert_allclose(layer(BATCH, side="user"), [[2, 4], [0, 0]])


def test_no_gradient_reaches_padding(embedding):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(embedding(BATCH, side="user"))
    gradient = tf.convert_to_tensor(tape.gradient(loss, embedding.trainable_weights[0]))
    # Users 3 and 0 once each, items 1 and 2 half each.
    rows = [0, 1, 0, 0, 1, 0, 0.5, 0.5, 0, 0]
    np.testing.assert_allclose(gradient, np.stack([rows, rows], axis=1))


def test_penalty_is_the_mean_over_rows():
    layer = FeatureEmbedding([HOUR], dim=2, l2=0.5)
    layer.build(None)
    layer.set_weights([np.array([[9, 9], [1, 2], [3, 5]])])
    layer(BATCH)
    # Hours 1 and 0: (9 + 25 + 1 + 4) / 2 rows, halved.
    assert float(tf.add_n(layer.losses)) == pytest.approx(39 / 4)


def test_penalty_is_in_full_precision_under_a_half_policy():
    layer = FeatureEmbedding([HOUR], dim=2, l2=1.0, dtype="mixed_float16")
    layer.build(None)
    layer.set_weights([np.full([3, 2], 2.0)])
    layer({"hour": tf.ones([100_000], tf.int32)})
    # A half-precision sum of 800,000 would be infinite.
    assert float(tf.add_n(layer.losses)) == pytest.approx(8)


def test_as_a_layer():
    specs = [HOUR, PRICE, InputSpec("tags", "list", "context", 5, 3), RATES]
    batch = {name: BATCH[name] for name in ("hour", "price", "statistics")}
    batch["tags"] = tf.constant([[1, 4, 0], [2, 0, 0]])
    outputs = run_layer_test(lambda: FeatureEmbedding(specs, dim=3, l2=0.1), batch)
    assert outputs.shape == (2, 3 + 3 + 1 + 2)


def test_names_the_missing_features(embedding):
    batch = {name: column for name, column in BATCH.items() if name not in ("hour", "price")}
    with pytest.raises(ValueError, match=r"lacks the features \['hour', 'price'\]; it has \['item"):
        embedding(batch)


def test_without_inputs_there_is_no_table():
    layer = FeatureEmbedding([])
    layer.build(None)
    assert layer.weights == []
    assert layer.width("user") == 0


def test_refuses_no_width():
    with pytest.raises(ValueError, match="expected a positive dim; received 0"):
        FeatureEmbedding([HOUR], dim=0)


def binned(price_bins, rate_bins):
    specs = [HOUR, replace(PRICE, bins=price_bins), replace(RATES, bins=rate_bins)]
    layer = FeatureEmbedding(specs, dim=2)
    layer.build(None)
    return layer


def test_bins_of_numbers():
    # Three bins of width 2 from -3: 2.5 fills two and three quarters, -1 one of them.
    layer = binned(3, 0)
    received = layer(BATCH)[:, 2:]
    expected = [[2.5, 0.1, 0.2, 1, 1, 0.75], [-1, 0.3, 0.4, 1, 0, 0]]
    np.testing.assert_allclose(received, expected, rtol=1e-6)
    assert layer.width("context") == 2 + 3 + 3


def test_bins_beyond_the_bounds_are_full_or_empty():
    layer = binned(4, 4)
    row = {
        "hour": tf.constant([1]),
        "price": tf.constant([-40.0]),
        "statistics": tf.constant([[3.0, 50.0]]),
    }
    np.testing.assert_allclose(layer(row)[0, 5:], [0] * 4 + [1] * 8)


def test_every_input_may_have_bins_of_its_own():
    received = binned(1, 2)(BATCH)[:, 5:]
    # One bin from -3 to 3, then two halves of it for each rate.
    expected = [[5.5 / 6, 1, 0.1 / 3, 1, 0.2 / 3], [2 / 6, 1, 0.3 / 3, 1, 0.4 / 3]]
    np.testing.assert_allclose(received, expected, rtol=1e-5)


def test_bins_as_a_layer():
    specs = [HOUR, replace(PRICE, bins=3), replace(RATES, bins=2)]
    run_layer_test(
        lambda: FeatureEmbedding(specs, dim=2),
        {name: BATCH[name] for name in ("hour", "price", "statistics")},
    )


def test_inputs_by_name_are_not_joined():
    specs = [
        InputSpec("item_id", "categorical", "item", 5, 1, "item_id"),
        InputSpec("seen", "list", "context", 5, 3, "item_id", list_kind="sequence"),
        InputSpec("price", "numeric", "context", 0, 1, bins=2),
        InputSpec("age", "numeric", "user", 0, 1),
    ]
    embedding = FeatureEmbedding(specs, dim=2)
    embedding.build(None)
    # Rows 0 and 1 to 5: padding, and the five ids that item_id and seen share.
    embedding.set_weights([np.arange(12.0).reshape(6, 2)])
    features = {
        "item_id": tf.constant([4, 0]),
        "seen": tf.constant([[4, 0, 0], [1, 2, 0]]),
        "price": tf.constant([-1.5, 9.0]),
    }
    embedded = embedding(features, names=["price", "seen", "item_id"])
    assert {name: part.numpy().tolist() for name, part in embedded.items()} == {
        "item_id": [[10, 11], [2, 3]],
        "seen": [[[10, 11], [0, 1], [0, 1]], [[4, 5], [6, 7], [0, 1]]],
        "price": [[-1.5], [9]],
        # Bins from -3 to 0 and from 0 to 3.
        "price/bins": [[0.5, 0], [1, 1]],
    }
    with pytest.raises(ValueError, match=r"the batch lacks the features \['age'\]"):
        embedding(features, names=["age"])


def test_inputs_by_name_are_penalised_once():
    embedding = FeatureEmbedding(
        [InputSpec("item_id", "categorical", "item", 3, 1, "item_id")], dim=2, l2=0.5
    )
    embedding.build(None)
    embedding.set_weights([np.arange(8.0).reshape(4, 2)])
    embedding({"item_id": tf.constant([0, 1])}, names=["item_id"])
    # (2^2 + 3^2 + 4^2 + 5^2) / 2 rows.
    assert float(sum(embedding.losses)) == 0.5 * 27


def test_every_vocabulary_tells_its_rows(embedding):
    assert embedding.rows_of_vocabularies == {
        "user_id": range(1, 5),
        "item_id": range(5, 8),
        "hour": range(8, 10),
    }
    np.testing.assert_array_equal(embedding.table, TABLE)


def split_by(partitioner):
    """The table of the tests as a parameter server strategy splits it, and the layer over it."""
    (shards, columns) = partitioner(tf.TensorShape(TABLE.shape), tf.float32)
    assert columns == 1
    # The first shards have the rows that are left over.
    parts = [tf.Variable(part) for part in np.array_split(TABLE, shards)]
    layer = FeatureEmbedding([USER, ITEM, RECENT, HOUR, PRICE, RATES], dim=2)
    layer.build(None)
    layer._table = tf.__internal__.distribute.ShardedVariable(parts)
    return layer, parts


partitioners = tf.distribute.experimental.partitioners


@pytest.mark.parametrize(
    "partitioner",
    [
        partitioners.FixedShardsPartitioner(1),
        partitioners.FixedShardsPartitioner(3),
        partitioners.FixedShardsPartitioner(4),
        partitioners.FixedShardsPartitioner(10),
        # 80 bytes of table make five shards.
        partitioners.MinSizePartitioner(min_shard_bytes=16, max_shards=5),
        partitioners.MaxSizePartitioner(max_shard_bytes=24),
    ],
)
@pytest.mark.parametrize("side", ["user", "item", "context"])
def test_a_split_table_gives_the_same_embeddings_and_gradients(embedding, side, partitioner):
    layer, parts = split_by(partitioner)

    @tf.function
    def gradients(layer, weights):
        with tf.GradientTape() as tape:
            outputs = layer(BATCH, side=side)
            # Another factor for each number, so that no row is taken for another.
            loss = tf.reduce_sum(outputs * tf.range(1.0, 1.0 + outputs.shape[1]))
        return outputs, tape.gradient(loss, weights)

    expected, (whole,) = gradients(embedding, embedding.trainable_weights)
    received, found = gradients(layer, parts)
    np.testing.assert_array_equal(received, expected)
    assert all(isinstance(gradient, tf.IndexedSlices) for gradient in (whole, *found))
    together = np.concatenate([tf.convert_to_tensor(gradient) for gradient in found])
    np.testing.assert_array_equal(together, tf.convert_to_tensor(whole))
    assert (together != 0).any()


def test_a_split_table_is_looked_up_by_name(embedding):
    layer, _ = split_by(partitioners.FixedShardsPartitioner(3))
    names = ["recent", "user_id", "price"]
    expected, received = embedding(BATCH, names=names), layer(BATCH, names=names)
    for name in names:
        np.testing.assert_array_equal(received[name], expected[name])


def test_the_gradient_of_a_whole_table_is_sparse_under_mixed_precision():
    layer = FeatureEmbedding([HOUR, RECENT], dim=2, dtype="mixed_bfloat16")
    layer.build(None)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(layer(BATCH), tf.float32))
    (gradient,) = tape.gradient(loss, layer.trainable_weights)
    assert isinstance(gradient, tf.IndexedSlices)
    # Hours 1 and 0 behind the row of padding.
    assert gradient.indices.numpy().tolist() == [2, 1]
