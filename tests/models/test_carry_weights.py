import dataclasses
import sys

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.data import FeatureEncoder, HeldOutLog, TrainingLog, Vocabulary
from tfmtl.graph import MacroConfig, build_graph_bundle, build_macro_graph
from tfmtl.models import build_model, carry_weights
from tfmtl.schema import Feature, Schema, Task
from tfmtl.training import LazyAdam

SCHEMA = Schema(
    tasks=[Task(name="click"), Task(name="like")],
    features=[
        Feature(name="seen", kind="sequence", vocabulary="item_id", max_length=3),
        Feature(name="title", kind="text", side="item", min_count=2, oov_buckets=3, max_length=4),
        Feature(name="brand", side="item", min_count=2, oov_buckets=4),
        Feature(name="device", hash_buckets=20),
        Feature(name="country", side="user"),
        Feature(name="price", kind="numeric"),
    ],
)
SMALL = {
    "mmoe": {"embedding_dim": 4, "num_experts": 2, "expert_units": (6,), "tower_units": (4,)},
    "single_task": {"embedding_dim": 4, "units": (6,)},
    "stem": {"embedding_dim": 4, "expert_units": (6,), "tower_units": (4,)},
    "home": {"embedding_dim": 4, "expert_units": (6,), "tower_units": (4,)},
    "grec": {
        "embedding_dim": 4,
        "dim": 8,
        "num_experts": 2,
        "sentence_inputs": ["country"],
        "text_inputs": ["title"],
    },
}


def night(first, users, items, rows=60, kind=TrainingLog, seed=0, seen=None):
    """Rows of users and items from `first` on; what is not seen often enough differs by night."""
    rng = np.random.default_rng(seed)
    user = first + rng.integers(0, users, rows)
    item = first + rng.integers(0, items, rows)
    columns = {
        "user_id": user,
        "item_id": item,
        "seen": [list((seen or first) + rng.integers(0, 12, 3)) for _ in range(rows)],
        "title": [f"film {i % 7} part{i} w{first + i}" for i in item],
        "brand": [f"b{i}" for i in first + rng.integers(0, 9, rows)],
        "device": rng.integers(0, 1000, rows),
        "country": [f"c{u % 5 + first}" for u in user],
        "price": rng.normal(size=rows),
        "click": np.arange(rows) % 2,
        "like": np.arange(rows) % 3 == 0,
    }
    return kind(pa.table(columns), SCHEMA)


FIRST, SECOND = night(100, 20, 15), night(90, 25, 18, seed=1)
# Of all kinds of ids, but for the lists of items, in which an unknown one would be left out.
HELD_OUT = night(85, 50, 40, rows=200, kind=HeldOutLog, seed=2, seen=100)


@pytest.fixture(scope="module")
def encoders():
    before = FeatureEncoder.fit(FIRST)
    after = before.grow(SECOND)
    sizes = {
        name: (v.size, after.vocabularies[name].size) for name, v in before.vocabularies.items()
    }
    # The tests below are about vocabularies that grow, beside one that is hashed and cannot.
    assert all(one < other or name == "device" for name, (one, other) in sizes.items()), sizes
    return before, after


def built(name, encoder, seed, **options):
    keras.utils.set_random_seed(seed)
    model = build_model(name, SCHEMA, encoder, SMALL.get(name, {}), **options)
    model.build_weights()
    return model


def randomize(model, seed=0):
    """Weights far from where they start, moving averages included."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.dtype.is_floating and weight.shape.rank:
            values = rng.normal(scale=0.4, size=weight.shape)
            weight.assign(values if weight.trainable else np.abs(values))
    return model


def predictions(model, encoder, log=HELD_OUT):
    features = encoder.encode(log).features
    return {name: p.numpy() for name, p in model.probabilities(features).items()}


@pytest.mark.parametrize("name", SMALL)
def test_no_prediction_changes(name, encoders):
    """Neither of old ids nor of new ones, which are looked up where unknown ids were."""
    before, after = encoders
    trained = randomize(built(name, before, 1))
    grown = built(name, after, 2)
    expected = predictions(trained, before)
    assert not np.array_equal(predictions(grown, after)["click"], expected["click"])
    carry_weights(trained, grown, before, after)
    received = predictions(grown, after)
    for task, values in expected.items():
        np.testing.assert_array_equal(received[task], values)
    encoded = before.encode(HELD_OUT).features
    known = (encoded["user_id"] > 0) & (encoded["item_id"] > 0)
    # What is compared must not be trivial: known and unknown ids, and many predictions.
    assert 10 < known.sum() < 190
    assert len(np.unique(expected["click"])) > 150


def test_tables_that_grew_are_named(encoders):
    before, after = encoders

    def carried(name):
        return carry_weights(built(name, before, 1), built(name, after, 2), before, after)

    assert carried("mmoe") == ["embedding/table"]
    assert carried("stem") == [
        "embedding/table",
        "embeddings/click/table",
        "embeddings/like/table",
    ]
    grec = carried("grec")
    # The table of titles, which the text encoder has, and that of countries in task sentences.
    assert grec[0] == "embedding/table"
    assert {path.rsplit("/", 1)[1] for path in grec[1:]} == {"table", "table_1"}


def test_rows_move_with_their_vocabulary(encoders):
    before, after = encoders
    trained, grown = randomize(built("mmoe", before, 1)), built("mmoe", after, 2)
    carry_weights(trained, grown, before, after)
    old, new = trained.embedding, grown.embedding
    for name, places in old.rows_of_vocabularies.items():
        start = new.rows_of_vocabularies[name].start
        np.testing.assert_array_equal(
            new.table[start : start + len(places)], old.table[places.start : places.stop]
        )
    # A new user starts as users without an id, a new brand as the bucket that it was hashed into.
    unknown = old.table[old.rows_of_vocabularies["user_id"].start]
    for row in new.table[new.rows_of_vocabularies["user_id"].start :][:26][21:].numpy():
        np.testing.assert_array_equal(row, unknown)
    brands = after.vocabularies["brand"]
    first = before.vocabularies["brand"].size
    buckets = before.vocabularies["brand"].encode(brands.values[first - 1 - brands.buckets :])
    assert 1 < len(np.unique(buckets)) <= brands.buckets
    assert buckets.max() <= brands.buckets
    starts = [e.rows_of_vocabularies["brand"].start for e in (old, new)]
    for number, bucket in enumerate(buckets):
        np.testing.assert_array_equal(
            new.table[starts[1] + first + number], old.table[starts[0] + bucket]
        )


def test_growth_may_be_carried_over_several_nights_at_once(encoders):
    before, after = encoders
    last = after.grow(night(80, 30, 20, seed=3))
    trained, grown = randomize(built("mmoe", before, 1)), built("mmoe", last, 2)
    carry_weights(trained, grown, before, last)
    expected, received = predictions(trained, before), predictions(grown, last)
    np.testing.assert_array_equal(received["like"], expected["like"])


def test_nothing_new_is_a_plain_copy(encoders):
    before, _ = encoders
    same = before.grow(FIRST)
    trained, copy = randomize(built("grec", before, 1)), built("grec", same, 2)
    assert carry_weights(trained, copy, before, same) == []
    expected, received = predictions(trained, before), predictions(copy, same)
    np.testing.assert_array_equal(received["like"], expected["like"])


@pytest.mark.parametrize(
    "optimizer", [LazyAdam, keras.optimizers.Adam, keras.optimizers.Adagrad], ids=str
)
def test_the_optimiser_goes_on_where_it_was(optimizer, encoders):
    """Two steps of one model, and one step, growth and another step, are the same."""
    before, after = encoders
    encoded = before.encode(FIRST)
    batch = tuple(
        {name: values[:32] for name, values in columns.items()}
        for columns in (encoded.features, encoded.labels, encoded.weights)
    )
    # Of the first night, whose ids are the old ones, so that both models see the same batch.
    trained, grown = randomize(built("mmoe", before, 1)), built("mmoe", after, 2)
    for model in (trained, grown):
        model.compile(optimizer=optimizer(0.05))
    trained.train_step(batch)
    carry_weights(trained, grown, before, after, optimizers=(trained.optimizer, grown.optimizer))
    assert int(grown.optimizer.iterations) == 1
    for model in (trained, grown):
        model.train_step(batch)
    places = trained.embedding.rows_of_vocabularies
    for name, own in places.items():
        start = grown.embedding.rows_of_vocabularies[name].start
        np.testing.assert_array_equal(
            grown.embedding.table[start : start + len(own)],
            trained.embedding.table[own.start : own.stop],
        )
    for one, other in zip(trained.trainable_weights, grown.trainable_weights, strict=True):
        if one.shape == other.shape:
            np.testing.assert_array_equal(one, other)


def test_slots_of_new_ids_are_those_of_an_untrained_one(encoders):
    before, after = encoders
    trained, grown = built("mmoe", before, 1), built("mmoe", after, 2)
    optimizers = [LazyAdam(), LazyAdam()]
    optimizers[0].build(trained.trainable_variables)
    for slot in optimizers[0].variables[1:]:
        slot.assign(tf.ones_like(slot))
    carry_weights(trained, grown, before, after, optimizers=tuple(optimizers))
    table = grown.embedding.table
    (moments,) = [
        slot.numpy() for slot in optimizers[1].variables if slot.shape[:1] == table.shape[:1]
    ]
    kept = np.ones(len(moments), bool)
    for name, places in grown.embedding.rows_of_vocabularies.items():
        kept[places.start + before.vocabularies[name].size : places.stop] = False
    assert not kept.all()
    np.testing.assert_array_equal(moments, np.broadcast_to(kept[:, None, None], moments.shape))


def test_averages_of_weights_start_where_the_weights_do(encoders):
    before, after = encoders
    trained, grown = randomize(built("mmoe", before, 1)), built("mmoe", after, 2)
    optimizers = [keras.optimizers.SGD(use_ema=True) for _ in range(2)]
    optimizers[0].build(trained.trainable_variables)
    carry_weights(trained, grown, before, after, optimizers=tuple(optimizers))
    averages = {a.shape: a.numpy() for a in optimizers[1].variables if "average" in a.name}
    table = grown.embedding.table
    np.testing.assert_array_equal(averages[table.shape], table)


def test_large_tables_are_copied_block_by_block(encoders, monkeypatch):
    before, after = encoders
    module = sys.modules["tfmtl.models.carry_weights"]
    monkeypatch.setattr(module, "_BLOCK_ROWS", 7)
    trained, grown = randomize(built("mmoe", before, 1)), built("mmoe", after, 2)
    carry_weights(trained, grown, before, after)
    expected, received = predictions(trained, before), predictions(grown, after)
    np.testing.assert_array_equal(received["click"], expected["click"])


def test_weights_of_half_precision_models_are_carried(encoders):
    before, after = encoders
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        trained, grown = randomize(built("mmoe", before, 1)), built("mmoe", after, 2)
        carry_weights(trained, grown, before, after)
        expected, received = predictions(trained, before), predictions(grown, after)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_array_equal(received["click"], expected["click"])


def split(model, shards):
    """Splits the model's table as a parameter server strategy would."""
    parts = [
        tf.Variable(part, name=f"table/part_{number}")
        for number, part in enumerate(np.array_split(model.embedding.table.numpy(), shards))
    ]
    model.embedding._trainable_weights = parts
    model.embedding._table = tf.__internal__.distribute.ShardedVariable(parts)
    return model


@pytest.mark.parametrize(("old", "new"), [(1, 3), (2, 2), (3, 1)])
def test_split_tables_are_carried(old, new, encoders):
    before, after = encoders
    trained = randomize(built("mmoe", before, 1))
    expected = predictions(trained, before)
    split(trained, old)
    grown = split(built("mmoe", after, 2), new)
    assert carry_weights(trained, grown, before, after) == ["embedding/table"]
    np.testing.assert_array_equal(predictions(grown, after)["click"], expected["click"])
    optimizers = keras.optimizers.Adam(), keras.optimizers.Adam()
    optimizers[0].build(trained.trainable_variables)
    with pytest.raises(ValueError, match="'embedding/table' is split over parameter servers"):
        carry_weights(trained, grown, before, after, optimizers=optimizers)


def test_what_a_model_holds_of_the_graph_stays_its_own(encoders):
    before, after = encoders
    models = []
    for encoder, log in ((before, FIRST), (after, SECOND)):
        model = built("light_gcn", encoder, 1)
        model.adapt_to_graph(build_graph_bundle(log, encoder, similarity=None))
        models.append(model)
    degrees = [
        weight.numpy() for weight in models[1].non_trainable_weights if "degrees" in weight.name
    ]
    assert len(degrees) == 2
    assert carry_weights(*models, before, after) == ["embedding/table"]
    after_carrying = [w.numpy() for w in models[1].non_trainable_weights if "degrees" in w.name]
    for expected, received in zip(degrees, after_carrying, strict=True):
        np.testing.assert_array_equal(received, expected)


def test_features_of_nodes_stay_those_of_the_new_encoder(encoders):
    before, after = encoders
    options = {"bottom": {"mgnn": {"dim": 4, "num_layers": 1}}}
    trained, grown = (built("mmoe", e, seed, **options) for e, seed in ((before, 1), (after, 2)))
    randomize(trained)
    nodes = [w.numpy() for w in grown.graph_bottom.non_trainable_weights]
    carry_weights(trained, grown, before, after)
    for expected, received in zip(nodes, grown.graph_bottom.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(received, expected)
    for one, other in zip(
        trained.graph_bottom.trainable_weights, grown.graph_bottom.trainable_weights, strict=True
    ):
        if one.shape == other.shape:
            np.testing.assert_array_equal(one, other)


def test_tables_of_macro_models_grow_by_users_and_items(encoders):
    before, after = encoders
    models = [
        built(
            "macgnn",
            encoder,
            seed,
            macro_graph=build_macro_graph(
                log, encoder, MacroConfig(user_nodes=3, item_nodes=2, recent=3)
            ),
        )
        for encoder, log, seed in ((before, FIRST, 1), (after, SECOND, 2))
    ]
    randomize(models[0])
    grew = carry_weights(*models, before, after)
    paths = {path: path.rsplit("/", 1)[1] for path in grew}
    assert {"user", "item"} <= set(paths.values())
    old, new = (
        next(
            w.numpy()
            for w in model.weights
            if w.shape[:1] == [encoder.vocabularies["user_id"].size]
        )
        for model, encoder in zip(models, encoders, strict=True)
    )
    np.testing.assert_array_equal(new[: len(old)], old)
    np.testing.assert_array_equal(new[len(old)], old[0])


def test_an_encoder_that_was_fitted_anew_is_refused(encoders):
    before, after = encoders
    anew = FeatureEncoder.fit(SECOND)
    with pytest.raises(ValueError, match=r"expected the ids of vocabulary 'user_id' under their"):
        carry_weights(built("mmoe", before, 1), built("mmoe", anew, 2), before, anew)
    with pytest.raises(ValueError, match=r"let before\.grow make the second encoder"):
        carry_weights(built("mmoe", after, 1), built("mmoe", before, 2), after, before)


def test_encoders_of_other_vocabularies_are_refused(encoders):
    before, after = encoders
    more = dataclasses.replace(after, vocabularies={**after.vocabularies, "x": Vocabulary([1])})
    with pytest.raises(ValueError, match="expected encoders of the same vocabularies"):
        carry_weights(built("mmoe", before, 1), built("mmoe", after, 2), before, more)


def test_a_model_of_another_encoder_is_refused(encoders):
    before, after = encoders
    with pytest.raises(ValueError, match=r"model 'grown' has 20 ids of vocabulary 'user_id', and"):
        carry_weights(built("mmoe", before, 1), built("mmoe", before, 2), before, after)


def test_models_that_differ_are_refused(encoders):
    before, after = encoders
    trained = built("mmoe", before, 1)

    def other(**options):
        return build_model("mmoe", SCHEMA, after, SMALL["mmoe"] | options)

    with pytest.raises(ValueError, match=r"weights that one of them lacks, \['experts/bias_1', "):
        carry_weights(trained, other(expert_units=(6, 4)), before, after)
    with pytest.raises(
        ValueError,
        match=r"weight 'experts/kernel_0' has shape \(2, .*, 6\) in the trained model and .* which "
        r"no vocabulary explains; rows of those that grew are \{'user_id': \(20, ",
    ):
        carry_weights(trained, other(expert_units=(5,)), before, after)
    with pytest.raises(ValueError, match=r"'embedding/table' of the same vocabularies and width"):
        carry_weights(trained, other(embedding_dim=6), before, after)
    fewer = build_model("mmoe", SCHEMA, after, SMALL["mmoe"], exclude_inputs=["brand"])
    with pytest.raises(ValueError, match=r"build both models with the same inputs and embedding"):
        carry_weights(trained, fewer, before, after)


def test_a_failure_leaves_the_new_model_as_it_was(encoders):
    before, after = encoders
    trained, grown = built("mmoe", before, 1), built("mmoe", after, 2)
    weights = [weight.numpy() for weight in grown.weights]
    with pytest.raises(ValueError, match="has no slots yet: restore it, or leave optimizers out"):
        carry_weights(trained, grown, before, after, optimizers=(LazyAdam(), LazyAdam()))
    for expected, received in zip(weights, grown.weights, strict=True):
        np.testing.assert_array_equal(received, expected)


def test_optimisers_of_two_kinds_are_refused(encoders):
    before, after = encoders
    trained, grown = built("mmoe", before, 1), built("mmoe", after, 2)
    optimizers = LazyAdam(), keras.optimizers.SGD()
    with pytest.raises(ValueError, match="two optimisers of one kind; received LazyAdam and SGD"):
        carry_weights(trained, grown, before, after, optimizers=optimizers)
    amsgrad = [keras.optimizers.Adam(amsgrad=on) for on in (False, True)]
    amsgrad[0].build(trained.trainable_variables)
    with pytest.raises(ValueError, match="expected the same slots of 'embedding/table' in both"):
        carry_weights(trained, grown, before, after, optimizers=tuple(amsgrad))
