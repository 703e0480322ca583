import numpy as np
import pytest

from tests.training.small_experiment import experiment
from tfmtl.datasets import DatasetError
from tfmtl.graph import BundleError, GraphBundle
from tfmtl.training import prepare_data


def test_parts_are_encoded(data):
    split = data.loaded.split
    assert [len(data.train), len(data.validation), len(data.test)] == [
        len(split.train),
        len(split.validation),
        len(split.test),
    ]
    assert data.train.is_training
    assert not data.validation.is_training
    assert data.encoder.train_fingerprint == split.train.fingerprint()
    assert data.encoder.inputs[-1].name == "statistics"
    assert data.bundle is None


def test_a_graph_is_built_for_models_that_use_one(graph_data):
    assert set(graph_data.bundle.edge_sets) == {"item_user", "user_item", "user_user", "item_item"}
    assert prepare_data(experiment("mogenet"), with_graph=False).bundle is None
    built = prepare_data(experiment("mmoe"), with_graph=True).bundle
    for name, store in graph_data.bundle.edge_sets.items():
        np.testing.assert_array_equal(built.edge_sets[name].indices, store.indices)


def test_a_saved_graph_takes_the_place_of_a_new_one(graph_data, tmp_path):
    graph_data.bundle.save(tmp_path / "graph")
    bundle = GraphBundle.load(tmp_path / "graph")
    # How it is sampled is no property of the graph.
    chosen = experiment("mogenet", "graph.fan_out=[7]", "graph.mask_own_edges=false")
    assert prepare_data(chosen, bundle=bundle).bundle is bundle
    chosen = experiment("mogenet", "graph.buckets=2", "graph.weighted=[user_user]")
    assert prepare_data(chosen, bundle=bundle).bundle is bundle


def test_a_time_limit_keeps_times():
    chosen = experiment("mogenet", "graph.time_limit=true")
    bundle = prepare_data(chosen).bundle
    assert bundle.edge_sets["item_user"].order == "time"
    assert prepare_data(chosen, bundle=bundle).bundle is bundle


@pytest.mark.parametrize(
    ("override", "entry"),
    [
        ("dataset.options.seed=1", "split_fingerprint"),
        ("statistics.prior=3", "encoder_fingerprint"),
        ("graph.edges=all", "edges 'positive', now it is 'all'"),
        ("graph.behaviors=[like]", r"behaviors None, now it is \['like'\]"),
        ("graph.similarity.top_k=3", "similarity"),
        ("graph.time_limit=true", "keep_times False, now it is True"),
    ],
)
def test_a_graph_that_was_made_otherwise_is_refused(override, entry, graph_data):
    with pytest.raises(BundleError, match=f"the graph was built with {entry}.*build the graph aga"):
        prepare_data(experiment("mogenet", override), bundle=graph_data.bundle)


def test_training_on_a_history_needs_one():
    with pytest.raises(DatasetError, match="'simulator' has no history to train on"):
        prepare_data(experiment("mmoe", "dataset.train_on_history=true"))
