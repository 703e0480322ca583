from collections import Counter

import numpy as np
import pytest

from tfmtl.data import training_dataset
from tfmtl.graph import NeighborSampler, graph_tensor_spec
from tfmtl.models import build_model
from tfmtl.pipelines.beam import run_sampling_job, subgraph_dataset, write_row_batches

BATCH_SIZE = 125


@pytest.fixture(scope="module")
def rows(shop):
    folder = str(shop.folder / "rows")
    write_row_batches(shop.encoder.encode(shop.train), folder, batch_size=BATCH_SIZE)
    return folder


@pytest.fixture(scope="module")
def whole(shop, shards, rows):
    """Sub-graphs with all neighbours, over all channels."""
    folder = str(shop.folder / "whole")
    run_sampling_job(rows, shards, folder, fan_out=(10**6, 10**6))
    return folder


@pytest.fixture(scope="module")
def drawn(shop, shards, rows):
    """Sub-graphs with two neighbours per node."""
    folder = str(shop.folder / "drawn")
    run_sampling_job(rows, shards, folder, fan_out=(2,), channels=["interaction"])
    return folder


def key_of(features):
    return features["user_id"].numpy().tobytes() + features["item_id"].numpy().tobytes()


def arrays_of(graph):
    arrays = {}
    for name in ("user", "item"):
        arrays |= {f"{name}/{key}": graph.node_sets[name][key] for key in ("id", "hop")}
    for name, edges in graph.edge_sets.items():
        arrays |= {f"{name}/{key}": edges[key] for key in edges.features}
        arrays |= {f"{name}/source": edges.adjacency.source}
        arrays |= {f"{name}/target": edges.adjacency.target}
    return arrays


@pytest.mark.slow
def test_with_all_neighbours_the_batches_are_those_of_the_online_sampler(shop, bundle, whole):
    sampler = NeighborSampler(bundle, fan_outs=(10**6, 10**6))
    encoded = shop.encoder.encode(shop.train)
    online = training_dataset(encoded, batch_size=BATCH_SIZE, sample=sampler)
    expected = {key_of(features): (features, *rest) for features, *rest in online}
    offline = subgraph_dataset(whole)
    assert offline.cardinality() == len(expected) == 16
    for features, labels, weights in offline:
        reference, *groups = expected.pop(key_of(features))
        received = arrays_of(features.pop("graph"))
        for name, values in arrays_of(reference.pop("graph")).items():
            np.testing.assert_array_equal(received[name], values, err_msg=name)
        for left, right in zip((features, labels, weights), (reference, *groups), strict=True):
            assert list(left) == list(right)
            for name, values in right.items():
                np.testing.assert_array_equal(left[name], values, err_msg=name)
    assert not expected


@pytest.mark.slow
def test_draws_are_distinct_edges_of_the_graph_without_the_batch_s_own(shop, bundle, drawn):
    store = bundle.edge_sets["item_user"]
    full = 0
    for features, _, _ in subgraph_dataset(drawn):
        graph = features["graph"]
        assert graph_tensor_spec(["item_user", "user_item"]).is_compatible_with(graph)
        own = set(zip(features["user_id"].numpy(), features["item_id"].numpy(), strict=True))
        edges = graph.edge_sets["item_user"]
        users = graph.node_sets["user"]["id"].numpy()[edges.adjacency.target]
        items = graph.node_sets["item"]["id"].numpy()[edges.adjacency.source]
        pairs = list(zip(users, items, strict=True))
        assert len(set(pairs)) == len(pairs)
        assert not own & set(pairs)
        for user, item, behavior in zip(users, items, edges["behavior"].numpy(), strict=True):
            row = slice(store.indptr[user], store.indptr[user + 1])
            place = store.indices[row].tolist().index(item)
            assert store.data["behavior"][row][place] == behavior
        degrees = Counter(users.tolist())
        assert max(degrees.values()) == 2
        full += sum(degree == 2 for degree in degrees.values())
        # One edge short only where the batch's own rows were among the three that were drawn.
        for user, degree in degrees.items():
            others = set(store.indices[store.indptr[user] : store.indptr[user + 1]].tolist())
            others -= {item for own_user, item in own if own_user == user}
            repeated = np.count_nonzero(features["user_id"].numpy() == user) > 1
            assert degree == min(2, len(others)) or repeated
    assert full > 100


@pytest.mark.slow
def test_the_same_model_trains_from_disk(shop, whole):
    hyperparameters = {"dim": 8, "embedding_dim": 4}
    model = build_model("mogenet", shop.train.schema, shop.encoder, hyperparameters)
    model.compile(optimizer="adam")
    history = model.fit(subgraph_dataset(whole, shuffle=16, seed=1), epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.slow
def test_second_run_into_one_folder(rows, shards, drawn):
    with pytest.raises(FileExistsError, match="exist already; choose another folder"):
        run_sampling_job(rows, shards, drawn, channels=["interaction"])


def test_missing_batches(shards, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"rows\.json is missing"):
        run_sampling_job(str(tmp_path), shards, str(tmp_path / "out"))


def test_missing_graph(rows, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"interactions\.json is missing"):
        run_sampling_job(rows, str(tmp_path), str(tmp_path / "out"))
