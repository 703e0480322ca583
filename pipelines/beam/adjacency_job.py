"""The job from Parquet files of a log to the shards of its interaction graph."""

from __future__ import annotations

import json
from collections.abc import Sequence

import apache_beam as beam
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from tfmtl.graph.interaction_graph import Edges
from tfmtl.pipelines.beam.adjacency_shards import (
    INTERACTIONS,
    WriteAdjacency,
    check_no_shards,
    read_document,
    write_document,
)
from tfmtl.pipelines.beam.bipartite_adjacency import BipartiteAdjacency, graph_columns
from tfmtl.pipelines.beam.load_encoder import load_encoder
from tfmtl.pipelines.beam.row_counts import RowCounts
from tfmtl.schema import ITEM_ID, USER_ID

_EDGE_SETS = ("item_user", "user_item")
_COUNTS = "counts.json"


def _check_files(pattern: str, columns: list[str]) -> None:
    """Looks into the first file, so that a wrong column is found before workers start."""
    found = FileSystems.match([pattern])[0].metadata_list
    if not found:
        raise FileNotFoundError(f"no file {pattern}; expected a path or a glob of Parquet files")
    path = min(entry.path for entry in found)
    with FileSystems.open(path) as file:
        names = pq.read_schema(file).names
    missing = [name for name in columns if name not in names]
    if missing:
        raise ValueError(
            f"{path}: no columns {missing}, which the encoder's schema names; the file has "
            f"{names}: name existing columns in the schema, or add them"
        )


def run_adjacency_job(
    train: Sequence[str],
    encoder_folder: str,
    output: str,
    *,
    history: Sequence[str] = (),
    edges: Edges = "positive",
    behaviors: tuple[str, ...] | None = None,
    before: float | None = None,
    block_rows: int = 1024,
    options: PipelineOptions | None = None,
) -> RowCounts:
    """Builds the interaction graph of a training log and writes its shards.

    The files must be those of the log, and of the history, that the encoder was fitted on, and hold
    no validation or test rows; `before` drops such rows by their time. The bundle's manifest takes
    the logs' fingerprints from the encoder: a job that reads rows in no order cannot check them.

    Args:
        train: Paths or globs of Parquet files with training rows; none to build from history alone.
        encoder_folder: Where `FeatureEncoder.save` wrote.
        output: Folder for `item_user-*.parquet`, `user_item-*.parquet` and `interactions.json`.
        history: Paths or globs of earlier rows that the model is not trained on.
        edges: `positive`, or `all` for pairs without any positive behaviour as well.
        behaviors: Tasks whose positives count; all tasks when left out.
        before: Rows of this time or later are left out; in the unit of the log.
        block_rows: Users, or items, whose edges a worker holds at one time.
        options: Options of the runner; the local one without.

    Returns:
        What was read.

    Raises:
        FeatureEncoderError: If there is no encoder in the folder.
        FileNotFoundError: If a pattern matches no file.
        FileExistsError: If the output folder holds shards already.
        ValueError: If a column is missing, no rows are left, or none of them makes an edge.
    """
    encoder = load_encoder(encoder_folder)
    patterns = [*train, *history]
    if not patterns:
        raise ValueError("no rows to build a graph from: give files of training rows or of history")
    if history and encoder.history_fingerprint is None:
        raise ValueError(
            f"received history {list(history)}, but the encoder was fitted without one: fit it "
            "with the history, or leave the history out"
        )
    columns = graph_columns(encoder.schema)
    for pattern in patterns:
        _check_files(pattern, columns)
    adjacency = BipartiteAdjacency(
        encoder_folder, edges=edges, behaviors=behaviors, before=before, block_rows=block_rows
    )
    for name in _EDGE_SETS:
        check_no_shards(output, name)
    counts_path = FileSystems.join(output, _COUNTS)
    with beam.Pipeline(options=options) as pipeline:
        tables = [
            pipeline | f"Read {pattern}" >> beam.io.ReadFromParquetBatched(pattern, columns=columns)
            for pattern in patterns
        ] | beam.Flatten()
        graph = tables | adjacency
        for name in _EDGE_SETS:
            _ = graph[name] | f"Write {name}" >> WriteAdjacency(output, name)
        _ = (
            graph["counts"]
            | "CountsToJson" >> beam.Map(json.dumps)
            | "WriteCounts" >> beam.io.WriteToText(counts_path, shard_name_template="")
        )
    counts = RowCounts(*read_document(output, _COUNTS))
    if not counts.edges:
        raise ValueError(
            f"{patterns}: none of {counts.rows} rows makes an edge ({counts.unknown} have a user "
            "or item that the encoder does not know): check the files, the encoder's folder and "
            "before="
        )
    document = {
        "num_users": encoder.vocabularies[USER_ID].size,
        "num_items": encoder.vocabularies[ITEM_ID].size,
        "rows": counts.rows,
        "rows_with_unknown_ids": counts.unknown,
        "manifest": {
            "tasks": list(encoder.schema.task_names),
            "time_window": None if counts.first is None else [counts.first, counts.last],
            "split_fingerprint": encoder.train_fingerprint,
            "history_fingerprint": encoder.history_fingerprint if history else None,
            "encoder_fingerprint": encoder.fingerprint(),
            "include_training_rows": bool(train),
            "edges": edges,
            "behaviors": None if behaviors is None else list(behaviors),
            "keep_times": False,
        },
    }
    write_document(output, INTERACTIONS, document)
    return counts
