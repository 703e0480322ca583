from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from tfmtl.data import FeatureEncoder, TrainingLog
from tfmtl.datasets import load
from tfmtl.graph import MacroConfig, SimilarityConfig, build_graph_bundle
from tfmtl.pipelines.beam import run_adjacency_job, run_macro_job, run_similarity_job

CONFIG = SimilarityConfig(measure="jaccard", min_degree=3, top_k=4, min_common=1)
MACRO_CONFIG = MacroConfig(
    user_nodes=5, item_groups="category", scores="count", sketch_dim=40, recent=6, seed=3
)

BEHAVIORS = ("click", "purchase")
# Users clustered on macro items, for two versions of a log without times.
OLD_CONFIG = MacroConfig(
    user_nodes=3,
    behaviors=BEHAVIORS,
    item_nodes=4,
    cluster_users_on="item_groups",
    weighting="ratio",
    recent=4,
    counting="history",
)


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


@pytest.fixture(scope="session")
def timed_shards(shop):
    """Folder of the shards of the interaction graph, with the latest time of each pair."""
    folder = str(shop.folder / "timed")
    run_adjacency_job([shop.files], shop.encoder_folder, folder, latest_times=True, block_rows=16)
    return folder


@pytest.fixture(scope="session")
def macro_shards(shop, timed_shards):
    """Folder of the shards of a macro graph."""
    folder = str(shop.folder / "macro")
    run_macro_job(timed_shards, shop.encoder_folder, folder, MACRO_CONFIG, block_rows=16)
    return folder


@pytest.fixture(scope="session")
def old(shop, tmp_path_factory):
    """A log without times whose first half is history, and the shards of both versions."""
    folder = tmp_path_factory.mktemp("old")
    schema = shop.train.schema.model_copy(update={"time": None})
    half = len(shop.train) // 2
    logs = {}
    for name, chosen in (("history", slice(0, half)), ("train", slice(half, None))):
        logs[name] = TrainingLog(
            shop.train.rows.slice(chosen.start, (chosen.stop or len(shop.train)) - chosen.start),
            schema,
            users=shop.train.users,
            items=shop.train.items,
        )
        pq.write_table(logs[name].rows, folder / f"{name}.parquet")
    encoder = FeatureEncoder.fit(logs["train"], logs["history"])
    encoder.save(folder / "encoder")
    shared = SimpleNamespace(
        **logs,
        encoder=encoder,
        encoder_folder=str(folder / "encoder"),
        all_shards=str(folder / "all"),
        old_shards=str(folder / "old"),
        macro=str(folder / "macro"),
        old_macro=str(folder / "old_macro"),
    )
    for train, graph in (([str(folder / "train.parquet")], "all_shards"), ([], "old_shards")):
        run_adjacency_job(
            train,
            shared.encoder_folder,
            getattr(shared, graph),
            history=[str(folder / "history.parquet")],
            behaviors=BEHAVIORS,
            block_rows=16,
        )
    run_macro_job(shared.all_shards, shared.encoder_folder, shared.macro, OLD_CONFIG)
    run_macro_job(
        shared.old_shards, shared.encoder_folder, shared.old_macro, OLD_CONFIG, groups=shared.macro
    )
    return shared
