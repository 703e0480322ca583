import numpy as np
import pytest
import tensorflow as tf
import tensorflow_gnn as tfgnn
import tf_keras as keras

from tfmtl.data import EncodedLog, evaluation_dataset, training_dataset
from tfmtl.graph import CHANNELS, EDGE_SETS, NeighborSampler, graph_tensor_spec, to_graph_tensor

ROWS = 50


@pytest.fixture(scope="module")
def encoded():
    rng = np.random.default_rng(0)
    features = {
        "user_id": rng.integers(0, 40, ROWS).astype(np.int32),
        "item_id": rng.integers(0, 30, ROWS).astype(np.int32),
    }
    labels = {"click": (rng.random(ROWS) < 0.5).astype(np.float32)}
    ones = {"click": np.ones(ROWS, np.float32)}
    return EncodedLog(features, labels, ones, None, None, True)


@pytest.fixture(scope="module")
def sampler(bundle):
    return NeighborSampler(bundle, fan_outs=(3, 2))


class Readout(keras.Model):
    """Scores a row by its user's and item's embeddings and the user's drawn neighbours."""

    def __init__(self):
        super().__init__()
        self.traces = 0
        self.embedding = {
            "user": keras.layers.Embedding(40, 4),
            "item": keras.layers.Embedding(30, 4),
        }

    def call(self, features):
        self.traces += 1
        graph = features["graph"]
        states = {
            name: self.embedding[name](graph.node_sets[name]["id"]) for name in ("user", "item")
        }
        sent = tf.gather(states["item"], graph.edge_sets["item_user"].adjacency.source)
        received = tf.math.unsorted_segment_mean(
            sent, graph.edge_sets["item_user"].adjacency.target, tf.shape(states["user"])[0]
        )
        graph = graph.replace_features(
            node_sets={
                "user": {"state": states["user"] + received},
                "item": {"state": states["item"]},
            }
        )
        user = tfgnn.structured_readout(graph, "user", feature_name="state")
        item = tfgnn.structured_readout(graph, "item", feature_name="state")
        return {"click": tf.reduce_sum(user * item, axis=-1, keepdims=True)}


def test_structured_readout_gives_the_rows(sampler, encoded):
    dataset = evaluation_dataset(encoded, batch_size=16, sample=sampler)
    assert dataset.element_spec[0]["graph"] == sampler.spec
    sizes = []
    for features, _, _ in dataset:
        for key in ("user", "item"):
            read = tfgnn.structured_readout(features["graph"], key, feature_name="id")
            np.testing.assert_array_equal(read, features[f"{key}_id"])
        sizes.append(features["graph"].node_sets["_readout"].total_size.numpy())
        assert features["graph"].num_components == 1
    assert sizes == [16, 16, 16, 2]


@pytest.mark.parametrize("channels", [("user_similarity",), ("interaction", "item_similarity")])
def test_only_the_chosen_channels_are_present(bundle, channels):
    sampler = NeighborSampler(bundle, fan_outs=(2,), channels=channels)
    graph = sampler({"user_id": [3], "item_id": [4]}, tf.constant([1, 2], tf.int64))
    names = {name for channel in channels for name in CHANNELS[channel]}
    assert set(graph.edge_sets) == names | {"_readout/user", "_readout/item"}
    assert set(graph_tensor_spec(sampler.edge_sets).edge_sets_spec) == set(graph.edge_sets)
    assert sampler.spec.is_compatible_with(graph)
    for name in names:
        source, target, feature = EDGE_SETS[name]
        edge_set = graph.edge_sets[name]
        assert (edge_set.adjacency.source_name, edge_set.adjacency.target_name) == (source, target)
        assert edge_set[feature].dtype == (tf.int32 if feature == "behavior" else tf.float32)
        assert edge_set[feature].shape[0] == edge_set.adjacency.source.shape[0]


def test_numpy_subgraph_and_tf_data_give_one_tensor(sampler):
    users, items = np.array([3, 5, 3], np.int32), np.array([1, 2, 8], np.int32)
    direct = to_graph_tensor(sampler.sample(users, items, seed=(4, 2)))
    called = sampler({"user_id": users, "item_id": items}, tf.constant([4, 2], tf.int64))
    first = tf.nest.flatten(direct, expand_composites=True)
    second = tf.nest.flatten(called, expand_composites=True)
    assert len(first) == len(second) > 20
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)


def test_batches_of_any_size_are_traced_once(sampler, encoded):
    traces = []

    @tf.function(input_signature=[sampler.spec])
    def edges(graph):
        traces.append(graph)
        return tf.shape(graph.edge_sets["item_user"].adjacency.source)[0]

    dataset = evaluation_dataset(encoded, batch_size=16, sample=sampler)
    sizes = {int(edges(features["graph"])) for features, _, _ in dataset}
    assert len(sizes) > 1
    assert len(traces) == 1


def test_a_model_fits_and_evaluates(sampler, encoded):
    keras.utils.set_random_seed(1)
    model = Readout()
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss={"click": loss})
    train = training_dataset(encoded, batch_size=16, sample=sampler)
    model.fit(train, steps_per_epoch=1, verbose=0)
    traces = model.traces
    history = model.fit(train, epochs=8, verbose=0).history["loss"]
    assert model.traces == traces
    assert history[-1] < 0.8 * history[0]
    evaluation = evaluation_dataset(encoded, batch_size=16, sample=sampler)
    assert model.predict(evaluation, verbose=0)["click"].shape == (ROWS, 1)
    assert np.isfinite(model.evaluate(evaluation, verbose=0))
