import pytest

from tests.pipelines.beam.conftest import MACRO_CONFIG
from tfmtl.graph import MacroConfig
from tfmtl.pipelines.beam import run_macro_job
from tfmtl.pipelines.beam.adjacency_shards import (
    INTERACTIONS,
    read_document,
    write_document,
)


def test_graph_of_another_encoder(old, timed_shards, tmp_path):
    with pytest.raises(ValueError, match=r"expected a graph of the encoder .*; received one of"):
        run_macro_job(timed_shards, old.encoder_folder, str(tmp_path))


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        ({}, {"behaviors": ("click",)}, r"behaviours \['click'\]; received .*'purchase'\]: run"),
        ({"edges": "all"}, {}, "edges 'positive' .*; received edges 'all' .*: run the adjacency"),
        ({"include_training_rows": False}, {}, "received one of the history alone: run this job"),
        ({}, {"counting": "history"}, "needs rows older than the log; received a graph without"),
        ({}, {"item_groups": "price"}, "expected a categorical item feature among"),
    ],
)
def test_graph_that_the_settings_do_not_fit(shop, timed_shards, tmp_path, change, config, message):
    document = read_document(timed_shards, INTERACTIONS)
    document["manifest"] |= change
    write_document(str(tmp_path), INTERACTIONS, document)
    with pytest.raises(ValueError, match=message):
        run_macro_job(
            str(tmp_path), shop.encoder_folder, str(tmp_path / "macro"), MacroConfig(**config)
        )


def test_log_with_times_needs_those_of_the_pairs(shop, timed_shards, tmp_path):
    document = read_document(timed_shards, INTERACTIONS)
    write_document(str(tmp_path), INTERACTIONS, document | {"latest_times": False})
    with pytest.raises(ValueError, match=r"run the adjacency job with latest_times \(--latest-ti"):
        run_macro_job(str(tmp_path), shop.encoder_folder, str(tmp_path / "macro"))


def test_groups_of_other_settings(shop, timed_shards, macro_shards, tmp_path):
    other = MACRO_CONFIG.model_copy(update={"beta": 0.5})
    with pytest.raises(ValueError, match=r"expected groups of the same macro, .*: give both runs"):
        run_macro_job(timed_shards, shop.encoder_folder, str(tmp_path), other, groups=macro_shards)


def test_missing_inputs(shop, timed_shards, tmp_path):
    empty, output = str(tmp_path), str(tmp_path / "macro")
    with pytest.raises(FileNotFoundError, match=r"interactions\.json is missing"):
        run_macro_job(empty, shop.encoder_folder, output)
    with pytest.raises(FileNotFoundError, match=r"groups\.json is missing"):
        run_macro_job(timed_shards, shop.encoder_folder, output, MACRO_CONFIG, groups=empty)
    document = read_document(timed_shards, INTERACTIONS)
    write_document(empty, INTERACTIONS, document)
    with pytest.raises(OSError, match=r"item_user-\*\.parquet"):
        run_macro_job(empty, shop.encoder_folder, output, MACRO_CONFIG)


def test_second_run_into_one_folder(shop, timed_shards, macro_shards, tmp_path):
    with pytest.raises(FileExistsError, match=r"user_rows-\*\.parquet exist already; choose"):
        run_macro_job(timed_shards, shop.encoder_folder, macro_shards, MACRO_CONFIG)
    write_document(str(tmp_path), "groups.json", {})
    with pytest.raises(FileExistsError, match=r"holds groups\.json already; choose another folder"):
        run_macro_job(timed_shards, shop.encoder_folder, str(tmp_path), MACRO_CONFIG)
