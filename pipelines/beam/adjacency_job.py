"""The job from Parquet files of a log to the shards of its interaction graph."""

from __future__ import annotations

import json
from collections.abc import Sequence

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from tfmtl.data.arrow_columns import canonical
from tfmtl.graph.interaction_graph import Edges
from tfmtl.pipelines.beam.adjacency_shards import (
    INTERACTIONS,
    LATEST_TIMES,
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


def _schema_of_files(pattern: str, columns: list[str]) -> pa.Schema:
    """Schema of the first file, so that a wrong column is found before workers start."""
    found = FileSystems.match([pattern])[0].metadata_list
    if not found:
        raise FileNotFoundError(f"no file {pattern}; expected a path or a glob of Parquet files")
    path = min(entry.path for entry in found)
    with FileSystems.open(path) as file:
        schema = pq.read_schema(file)
    names = schema.names
    missing = [name for name in columns if name not in names]
    if missing:
        raise ValueError(
            f"{path}: no columns {missing}, which the encoder's schema names; the file has "
            f"{names}: name existing columns in the schema, or add them"
        )
    return schema


def _time_type(schemas: list[pa.Schema], time: str) -> pa.DataType:
    """`int64` where the times of all files are whole, else `float64`."""
    types = {canonical(schema.empty_table()[time]).type for schema in schemas}
    return types.pop() if len(types) == 1 else pa.float64()


def run_adjacency_job(
    train: Sequence[str],
    encoder_folder: str,
    output: str,
    *,
    history: Sequence[str] = (),
    edges: Edges = "positive",
    behaviors: tuple[str, ...] | None = None,
    before: float | None = None,
    latest_times: bool = False,
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
        latest_times: Whether to write the time of each pair's latest row as well, as
            `item_user_time-*.parquet` and `user_item_time-*.parquet`: macro graphs need it.
        block_rows: Users, or items, whose edges a worker holds at one time.
        options: Options of the runner; the local one without.

    Returns:
        What was read.

    Raises:
        FeatureEncoderError: If there is no encoder in the folder.
        FileNotFoundError: If a pattern matches no file.
        FileExistsError: If the output folder holds shards already.
        ValueError: If a column is missing, no rows are left, none of them makes an edge, or
            `latest_times` is given for a log without times.
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
    schemas = [_schema_of_files(pattern, columns) for pattern in patterns]
    adjacency = BipartiteAdjacency(
        encoder_folder,
        edges=edges,
        behaviors=behaviors,
        before=before,
        latest_times=latest_times,
        block_rows=block_rows,
    )
    written: dict[str, pa.DataType | None] = dict.fromkeys(_EDGE_SETS)
    if latest_times:
        assert encoder.schema.time is not None
        times = _time_type(schemas, encoder.schema.time)
        written |= dict.fromkeys(LATEST_TIMES.values(), times)
    for name in written:
        check_no_shards(output, name)
    counts_path = FileSystems.join(output, _COUNTS)
    with beam.Pipeline(options=options) as pipeline:
        tables = [
            pipeline | f"Read {pattern}" >> beam.io.ReadFromParquetBatched(pattern, columns=columns)
            for pattern in patterns
        ] | beam.Flatten()
        graph = tables | adjacency
        for name, values in written.items():
            _ = graph[name] | f"Write {name}" >> WriteAdjacency(output, name, values=values)
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
        "latest_times": latest_times,
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
