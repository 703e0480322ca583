from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from tfmtl.data import FeatureEncoder
from tfmtl.datasets import load
from tfmtl.graph import SimilarityConfig, build_graph_bundle
from tfmtl.pipelines.beam import run_adjacency_job, run_similarity_job

CONFIG = SimilarityConfig(measure="jaccard", min_degree=3, top_k=4, min_common=1)


def assert_same_edges(received, expected):
    assert list(received) == list(expected)
    for name, store in expected.items():
        for array in ("indptr", "indices"):
            np.testing.assert_array_equal(
                getattr(received[name], array), getattr(store, array), err_msg=name
            )
        assert list(received[name].data) == list(store.data)
        for feature, values in store.data.items():
            np.testing.assert_array_equal(received[name].data[feature], values, err_msg=name)
            assert received[name].data[feature].dtype == values.dtype


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """A simulated log on disk, with its encoder, in files of several row groups."""
    folder = tmp_path_factory.mktemp("shop")
    train = load("simulator", num_users=60, num_items=40, num_rows=2500).split.train
    encoder = FeatureEncoder.fit(train)
    encoder.save(folder / "encoder")
    half = len(train) // 2
    for number, rows in enumerate((train.rows[:half], train.rows[half:])):
        pq.write_table(rows, folder / f"train-{number}.parquet", row_group_size=300)
    return SimpleNamespace(
        folder=folder,
        train=train,
        encoder=encoder,
        encoder_folder=str(folder / "encoder"),
        files=str(folder / "train-*.parquet"),
    )


@pytest.fixture(scope="session")
def shards(shop):
    """Folder of the shards of all four edge sets; blocks of 16 rows make many of them."""
    folder = str(shop.folder / "graph")
    run_adjacency_job([shop.files], shop.encoder_folder, folder, block_rows=16)
    run_similarity_job(folder, CONFIG, block_rows=16)
    return folder


@pytest.fixture(scope="session")
def bundle(shop):
    """The same graph, built on one machine."""
    return build_graph_bundle(shop.train, shop.encoder, similarity=CONFIG)
