import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipelines.beam.conftest import assert_same_edges
from tfmtl.data import FeatureEncoder, FeatureEncoderError, TrainingLog
from tfmtl.graph import build_graph_bundle
from tfmtl.pipelines.beam import assemble_graph_bundle, run_adjacency_job
from tfmtl.pipelines.beam.adjacency_shards import read_adjacency
from tfmtl.schema import Schema, Task

SCHEMA = Schema(tasks=[Task(name="click")], time="ts")


def write(folder, name, **columns):
    pq.write_table(pa.table(columns), folder / name)
    return str(folder / name)


@pytest.mark.parametrize("include", [True, False])
def test_history_is_added(tmp_path, include):
    old = {"user_id": [1, 2, 2], "item_id": [5, 5, 6], "ts": [1, 2, 3], "click": [1, 1, 0]}
    new = {"user_id": [1, 3], "item_id": [5, 6], "ts": [7, 8], "click": [1, 1]}
    history = TrainingLog(pa.table(old), SCHEMA)
    train = TrainingLog(pa.table(new), SCHEMA)
    encoder = FeatureEncoder.fit(train, history)
    encoder.save(tmp_path / "encoder")
    graph = str(tmp_path / "graph")
    counts = run_adjacency_job(
        [write(tmp_path, "new.parquet", **new)] if include else [],
        str(tmp_path / "encoder"),
        graph,
        history=[write(tmp_path, "old.parquet", **old)],
        edges="all",
        behaviors=("click",),
    )
    assert counts.rows == (5 if include else 3)
    expected = build_graph_bundle(
        train,
        encoder,
        history=history,
        include_training_rows=include,
        edges="all",
        behaviors=("click",),
        similarity=None,
    )
    received = assemble_graph_bundle(graph)
    assert received.manifest == expected.manifest
    assert_same_edges(received.edge_sets, expected.edge_sets)


def test_latest_times_with_a_fraction_among_the_files(tmp_path):
    whole = {"user_id": [1, 1], "item_id": [5, 6], "ts": [7, 3], "click": [1, 1]}
    broken = {"user_id": [1, 1], "item_id": [6, 6], "ts": [3.5, 3.25], "click": [1, 1]}
    FeatureEncoder.fit(TrainingLog(pa.table(whole), SCHEMA)).save(tmp_path / "encoder")
    files = [write(tmp_path, "whole.parquet", **whole), write(tmp_path, "broken.parquet", **broken)]
    graph = str(tmp_path / "graph")
    run_adjacency_job(files, str(tmp_path / "encoder"), graph, latest_times=True)
    (times,) = read_adjacency(graph, "item_user_time")
    assert times.indices.tolist() == [1, 2]
    assert times.values.tolist() == [7, 3.5]
    assert times.values.dtype == np.float64


def test_whole_latest_times(timed_shards):
    for name in ("item_user_time", "user_item_time"):
        times = [block.values for block in read_adjacency(timed_shards, name)]
        assert np.concatenate(times).dtype == np.int64


def test_missing_column_is_found_before_workers_start(shop, tmp_path):
    rows = shop.train.rows.drop_columns(["like", "time"])
    pq.write_table(rows, tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"rows\.parquet: no columns \['time', 'like'\]"):
        run_adjacency_job(
            [str(tmp_path / "rows.parquet")], shop.encoder_folder, str(tmp_path / "graph")
        )


def test_no_such_encoder(shop, tmp_path):
    with pytest.raises(FeatureEncoderError, match="nowhere holds no encoder"):
        run_adjacency_job([shop.files], str(tmp_path / "nowhere"), str(tmp_path / "graph"))


def test_no_such_file(shop, tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a path or a glob of Parquet files"):
        run_adjacency_job(
            [str(tmp_path / "*.parquet")], shop.encoder_folder, str(tmp_path / "graph")
        )


def test_no_files_given(shop, tmp_path):
    with pytest.raises(ValueError, match="give files of training rows or of history"):
        run_adjacency_job([], shop.encoder_folder, str(tmp_path / "graph"))


def test_history_that_the_encoder_does_not_know(shop, tmp_path):
    with pytest.raises(ValueError, match="but the encoder was fitted without one"):
        run_adjacency_job([], shop.encoder_folder, str(tmp_path / "graph"), history=[shop.files])


@pytest.mark.parametrize("before", [None, 0])
def test_no_rows(shop, tmp_path, before):
    rows = shop.train.rows if before == 0 else shop.train.rows[:0]
    pq.write_table(rows, tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match="none of 0 rows makes an edge"):
        run_adjacency_job(
            [str(tmp_path / "rows.parquet")],
            shop.encoder_folder,
            str(tmp_path / "graph"),
            before=before,
        )
    with pytest.raises(FileNotFoundError, match=r"interactions\.json is missing"):
        assemble_graph_bundle(str(tmp_path / "graph"))


def test_second_run_into_one_folder(shop, shards):
    with pytest.raises(FileExistsError, match="choose another folder or remove them"):
        run_adjacency_job([shop.files], shop.encoder_folder, shards)
