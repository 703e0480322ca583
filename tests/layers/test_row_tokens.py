import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.data import InputSpec
from tfmtl.layers import FeatureEmbedding
from tfmtl.layers.row_tokens import RowTokens, inputs_of_tokens
from tfmtl.testing import assert_gradients_reach_every_weight

ITEM = InputSpec("item_id", "categorical", "item", 9, 1, "item_id")
SEEN = InputSpec("seen", "list", "context", 9, 4, "item_id", list_kind="sequence")
PAGES = InputSpec("pages", "list", "context", 4, 4, "page", list_kind="sequence")
TITLE = InputSpec("title", "list", "item", 7, 3, list_kind="text")
QUERY = InputSpec("query", "list", "context", 5, 2, list_kind="text")
TAGS = InputSpec("tags", "list", "item", 6, 3, list_kind="multi_categorical")
COVER = InputSpec("cover", "numeric", "item", 0, 3, vector=True)
PRICE = InputSpec("price", "numeric", "item", 0, 1)
TAB = InputSpec("tab", "categorical", "context", 4, 1)
AGE = InputSpec("age", "numeric", "user", 0, 1)
EVERY = (ITEM, SEEN, PAGES, TITLE, TAGS, COVER, PRICE, TAB, AGE)


def rows_of(specs, size=5, seed=1):
    random, rows = np.random.default_rng(seed), {}
    for spec in specs:
        shape = [size, spec.width] if spec.kind == "list" or spec.width > 1 else [size]
        if spec.kind == "numeric":
            rows[spec.name] = tf.constant(random.normal(size=shape), tf.float32)
        else:
            rows[spec.name] = tf.constant(random.integers(1, spec.vocabulary_size, shape), tf.int32)
    return rows


def tokens_of(specs, *, dim=8, embedding_dim=4, parts=None, **options):
    """Built tokens; as in a model, texts with encoders of their own are not in the table."""
    parts = inputs_of_tokens(specs) if parts is None else parts
    texts = {spec.name for spec in parts["text"] if not spec.vector}
    embedded = [spec for spec in specs if spec.name not in texts]
    layer = RowTokens(
        FeatureEmbedding(embedded, dim=embedding_dim), parts, dim=dim, num_heads=2, **options
    )
    layer.build(None)
    return layer


def assigned(layer, values):
    """Gives weights their values, by the last two parts of their names."""
    for weight in layer.weights:
        weight.assign(values["/".join(weight.name.split(":")[0].split("/")[-2:])])
    return layer


def test_golden_of_a_history():
    specs = [
        InputSpec("seen", "list", "context", 3, 2, "item_id", list_kind="sequence"),
        InputSpec("pages", "list", "context", 3, 2, "page", list_kind="sequence"),
    ]
    layer = tokens_of(specs, dim=2, embedding_dim=2, num_blocks=0)
    table = layer.embedding.trainable_weights[0]
    values = {
        # Rows: padding, items 0 to 2, pages 0 to 2.
        "/".join(table.name.split(":")[0].split("/")[-2:]): [
            [9, 9],
            [9, 9],
            [1, 2],
            [0, -1],
            [9, 9],
            [1, 1],
            [-1, 0],
        ],
        "sequence_items/kernel": [[1, 0], [1, 2]],
        "sequence_items/bias": [0, 1],
        "sequence_events/kernel": [[2, 0], [0, 1]],
        "sequence_events/bias": [1, 1],
        # Rows: both means, both maxima.
        "inner/kernel": [[1, 0], [0, 1], [0, -1], [2, 0]],
        "inner/bias": [0, 1],
        "outer/kernel": [[1, 0], [1, 2]],
        "outer/bias": [0, -1],
    }
    assigned(layer, values)
    features = {
        "seen": tf.constant([[1, 2], [2, 0], [0, 0]]),
        "pages": tf.constant([[2, 1], [1, 2], [1, 1]]),
    }
    # Item 1: [1 + 2, 4 + 1] = [3, 5]; item 2: [-1, -2 + 1] = [-1, -1].
    # Page 1: [2 + 1, 1 + 1] = [3, 2]; page 2: [-2 + 1, 1] = [-1, 1].
    # Row 0: events [-3, 5] and [-3, -2]; mean [-3, 1.5], maximum [-3, 5].
    #   Inner: -3 + 10 = 7; 1.5 + 3 + 1 = 5.5. Outer: 12.5; 11 - 1 = 10.
    # Row 1: one event [-3, -2], whatever the page of the padding.
    #   Inner: -3 - 4 = -7; -2 + 3 + 1 = 2. Outer: -5; 4 - 1 = 3.
    # Row 2, without history: inner [0, 1], outer [1, 1].
    np.testing.assert_allclose(layer(features)[:, 0], [[12.5, 10], [-5, 3], [1, 1]], rtol=1e-6)


def test_golden_of_an_item():
    specs = [InputSpec("item_id", "categorical", "item", 2, 1, "item_id"), TAGS, PRICE]
    layer = tokens_of(specs, dim=2, embedding_dim=1)
    table = layer.embedding.trainable_weights[0]
    # Rows: padding, items 0 and 1, tags 0 to 5.
    table.assign([[99], [99], [2], [99], [4], [6], [99], [99], [99]])
    kernel, bias = layer.trainable_weights[1:]
    kernel.assign([[1, 0], [1, -1], [0, 2]])
    bias.assign([0.5, 0.5])
    features = {
        "item_id": tf.constant([1, 1]),
        "tags": tf.constant([[1, 2, 0], [0, 0, 0]]),
        "price": tf.constant([3.0, -1.0]),
    }
    # Tags 1 and 2: mean of 4 and 6. Row 0: 2 + 5 + 0.5; -5 + 2 * 3 + 0.5.
    # Row 1 has no tags: 2 + 0.5; -2 + 0.5.
    np.testing.assert_allclose(layer(features)[:, 0], [[7.5, 1.5], [2.5, -1.5]], rtol=1e-6)


def test_tokens_stand_in_one_order_whatever_that_of_the_inputs():
    layer = tokens_of(EVERY)
    assert layer.names == ("sequence", "context", "text", "item")
    assert tokens_of(EVERY[::-1]).names == layer.names
    assert layer(rows_of(EVERY)).shape == (5, 4, 8)
    assert tokens_of([TAB, ITEM]).names == ("context", "item")


def test_inputs_of_tokens():
    parts = inputs_of_tokens(EVERY)
    assert {token: [spec.name for spec in own] for token, own in parts.items()} == {
        "sequence": ["seen", "pages"],
        "context": ["tab", "age"],
        "text": ["title", "cover"],
        "item": ["item_id", "tags", "price"],
    }
    named = inputs_of_tokens(EVERY, ["tags"])
    assert [spec.name for spec in named["text"]] == ["tags"]
    assert [spec.name for spec in named["item"]] == ["item_id", "title", "cover", "price"]


@pytest.mark.parametrize("name", ["titel", "tab", "price"])
def test_refuses_texts_that_are_none(name):
    with pytest.raises(
        ValueError, match=rf"lists and vectors \[.*'cover'\]; received \['{name}'\]: name a feature"
    ):
        inputs_of_tokens(EVERY, [name])


@pytest.mark.parametrize("options", [{}, {"context_units": (6,)}])
def test_build_makes_every_weight_and_gradients_reach_it(options):
    layer = tokens_of(EVERY, **options)
    built = [weight.name for weight in layer.weights]
    features = rows_of(EVERY)
    layer(features)
    assert [weight.name for weight in layer.weights] == built
    assert len(set(built)) == len(built)
    assert_gradients_reach_every_weight(layer, features)


def test_half_precision_stays_close():
    features = rows_of(EVERY)
    layer = tokens_of(EVERY)
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        half = tokens_of(EVERY)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    half.set_weights(layer.get_weights())
    received = half(features)
    assert received.dtype == tf.float16
    assert all(weight.dtype == tf.float32 for weight in half.weights)
    np.testing.assert_allclose(received, layer(features), atol=2e-2)


def test_what_stands_in_padding_is_not_read():
    layer = tokens_of([SEEN, PAGES])
    seen = tf.constant([[3, 5, 0, 0]])
    one, other = (
        layer({"seen": seen, "pages": tf.constant([pages])})
        for pages in ([1, 2, 0, 0], [1, 2, 3, 1])
    )
    np.testing.assert_array_equal(one, other)
    moved = layer({"seen": seen, "pages": tf.constant([[1, 3, 0, 0]])})
    assert np.abs(moved - one).max() > 1e-4


def test_the_order_of_a_history_is_read():
    layer = tokens_of([SEEN])
    one, other = (layer({"seen": tf.constant([items])}) for items in ([3, 5, 1, 0], [1, 5, 3, 0]))
    assert np.abs(one - other).max() > 1e-4


def test_empty_histories_and_texts_each_have_one_vector():
    layer = tokens_of([SEEN, TITLE])
    for weight in layer.trainable_weights:
        weight.assign_add(tf.fill(weight.shape, 0.1))
    empty = {"seen": tf.zeros([2, 4], tf.int32), "title": tf.zeros([2, 3], tf.int32)}
    tokens = layer(empty)
    np.testing.assert_array_equal(tokens[0], tokens[1])
    assert np.all(np.abs(tokens[0]).max(axis=-1) > 1e-2)
    told = layer({"seen": tf.constant([[2, 0, 0, 0]] * 2), "title": tf.constant([[4, 0, 0]] * 2)})
    assert np.all(np.abs(told - tokens).max(axis=-1) > 1e-4)


def test_an_encoder_that_is_given_is_shared_by_all_texts():
    encoder = keras.Sequential(
        [keras.layers.Embedding(7, 3), keras.layers.GlobalAveragePooling1D()]
    )
    shared = tokens_of([TITLE, QUERY, COVER], text_encoder=encoder)
    own = tokens_of([TITLE, QUERY, COVER])

    def tables(layer):
        named = [w for w in layer.weights if "embeddings" in w.name or "table" in w.name]
        return sorted(tuple(weight.shape) for weight in named)

    # Without table rows but padding in the model's own, and a table for each text's encoder.
    assert tables(shared) == [(1, 4), (7, 3)]
    assert tables(own) == [(1, 4), (5, 8), (7, 8)]
    # Two texts of width 3, and a vector that is not encoded.
    kernel = next(w for w in shared.weights if w.name.endswith("text/kernel:0"))
    assert kernel.shape == (3 + 3 + 3, 8)
    features = rows_of([TITLE, QUERY, COVER])
    means = [
        tf.reduce_mean(tf.gather(encoder.weights[0], features[name]), axis=1)
        for name in ("title", "query")
    ]
    expected = tf.concat([*means, features["cover"]], axis=-1) @ kernel
    np.testing.assert_allclose(shared(features)[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_powers_stand_where_numbers_have_no_bins():
    def columns(**options):
        layer = tokens_of([InputSpec("age", "numeric", "user", 0, 1, **options), TAB])
        return [w.shape[0] for w in layer.weights if w.name.endswith("wide/kernel:0")]

    assert columns() == [3]
    assert columns(bins=4) == [1]


def test_hidden_layers_of_the_context_read_its_numbers():
    layer = tokens_of([TAB, AGE], context_units=(6,))
    hidden = next(w for w in layer.weights if w.name.endswith("hidden/dense_0/kernel:0"))
    # One embedding of 4, and the number with its square and root.
    assert hidden.shape == (4 + 3, 6)


def test_refuses_no_token():
    with pytest.raises(
        ValueError, match=r"at least one token of \['sequence', .*received none: ke"
    ):
        RowTokens(FeatureEmbedding([TAB], dim=4), {})


@pytest.mark.parametrize(
    ("specs", "received"),
    [
        ([PAGES], r"\{'pages': \('page', 4\)\}"),
        (
            [SEEN, InputSpec("liked", "list", "user", 9, 4, "item_id", list_kind="sequence")],
            "liked",
        ),
        ([SEEN, InputSpec("pages", "list", "context", 4, 5, list_kind="sequence")], r"\(None, 5\)"),
    ],
)
def test_refuses_sequences_without_one_item_per_event(specs, received):
    with pytest.raises(
        ValueError, match=rf"expected one sequence of items .*{received}.*: leave some out"
    ):
        tokens_of(specs)
