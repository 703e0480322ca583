"""Adjacency on disk between jobs: Parquet shards that any Parquet reader opens."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from tfmtl.graph.topology import EDGE_SETS
from tfmtl.pipelines.beam.adjacency_block import AdjacencyBlock

INTERACTIONS = "interactions.json"
SIMILARITY = "similarity.json"
# Edge set -> name of the shards with the time of each edge's latest row.
LATEST_TIMES = {"item_user": "item_user_time", "user_item": "user_item_time"}
_VALUES = {"behavior": pa.int32(), "weight": pa.float32()}


def shard_pattern(folder: str, edge_set: str) -> str:
    """Glob of the shards of one edge set in the folder of a graph.

    Args:
        folder: Folder of the shards.
        edge_set: Name of the edge set.

    Example:
        >>> shard_pattern("graph", "user_user")
        'graph/user_user-*.parquet'
    """
    return FileSystems.join(folder, f"{edge_set}-*.parquet")


class WriteAdjacency(beam.PTransform):
    """Writes `AdjacencyBlock`s of one edge set as Parquet shards.

    A row of a shard is a receiver: `row int32`, `columns list<int32>` ascending, and `values`, a
    list of as many behaviours `int32` or weights `float32`. Shards appear whole or not at all.

    Args:
        folder: Folder to write to.
        edge_set: Name of the edge set, or one of `LATEST_TIMES`.
        values: Type of the values; that of the edge set's feature when left out.

    Example:
        >>> WriteAdjacency("graph", "user_user").label
        'WriteAdjacency'
    """

    def __init__(self, folder: str, edge_set: str, *, values: pa.DataType | None = None) -> None:
        super().__init__()
        self._prefix = FileSystems.join(folder, edge_set)
        values = _VALUES[EDGE_SETS[edge_set][2]] if values is None else values
        self._schema = pa.schema(
            {"row": pa.int32(), "columns": pa.list_(pa.int32()), "values": pa.list_(values)}
        )

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """Applies the transform.

        Args:
            blocks: Blocks of the edge set.
        """
        return (
            blocks
            | "ToTable"
            >> beam.Map(lambda block, schema: block.to_table().cast(schema), self._schema)
            | "Write"
            >> beam.io.WriteToParquetBatched(
                self._prefix, self._schema, codec="zstd", file_name_suffix=".parquet"
            )
        )


class ReadAdjacency(beam.PTransform):
    """Reads the shards of one edge set.

    Args:
        folder: Folder that `WriteAdjacency` wrote to.
        edge_set: Name of the edge set.

    Output: `AdjacencyBlock`s; every receiver in one block only.

    Example:
        >>> ReadAdjacency("graph", "user_user").label
        'ReadAdjacency'
    """

    def __init__(self, folder: str, edge_set: str) -> None:
        super().__init__()
        self._pattern = shard_pattern(folder, edge_set)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Applies the transform.

        Args:
            pipeline: Where to read.
        """
        return (
            pipeline
            | "Read" >> beam.io.ReadFromParquetBatched(self._pattern)
            | "ToBlock" >> beam.Map(AdjacencyBlock.from_table)
        )


def read_adjacency(folder: str, edge_set: str) -> Iterator[AdjacencyBlock]:
    """Reads the shards of one edge set outside of a pipeline, one by one.

    Args:
        folder: Folder of the shards.
        edge_set: Name of the edge set.

    Raises:
        FileNotFoundError: If there are none.
    """
    pattern = shard_pattern(folder, edge_set)
    paths = sorted(found.path for found in FileSystems.match([pattern])[0].metadata_list)
    if not paths:
        raise FileNotFoundError(f"no shards {pattern}; run the job that writes {edge_set} first")
    for path in paths:
        with FileSystems.open(path) as file:
            yield AdjacencyBlock.from_table(pq.read_table(pa.PythonFile(file)))


def check_no_shards(folder: str, edge_set: str) -> None:
    """Refuses to add shards to those of another run, which would be read as one graph.

    Args:
        folder: Folder to be written to.
        edge_set: Name of the edge set.

    Raises:
        FileExistsError: If there are shards of it.

    Example:
        >>> check_no_shards("nowhere", "user_user")
    """
    pattern = shard_pattern(folder, edge_set)
    if FileSystems.match([pattern])[0].metadata_list:
        raise FileExistsError(f"{pattern} exist already; choose another folder or remove them")


def read_document(folder: str, name: str) -> dict[str, Any]:
    """Reads what a job says of the shards it wrote.

    Args:
        folder: Folder of the shards.
        name: Name of the file.

    Raises:
        FileNotFoundError: If the job has not run to its end.
    """
    path = FileSystems.join(folder, name)
    if not FileSystems.exists(path):
        raise FileNotFoundError(
            f"{path} is missing: a job writes it last; run the job of this folder to its end"
        )
    with FileSystems.open(path) as file:
        return json.loads(file.read())


def write_document(folder: str, name: str, document: dict[str, Any]) -> None:
    """Writes a JSON document beside the shards, aside and then renamed.

    Args:
        folder: Folder of the shards.
        name: Name of the file.
        document: JSON-able content.
    """
    with written_whole(folder, name) as file:
        file.write(json.dumps(document, indent=1).encode())


@contextmanager
def written_whole(folder: str, name: str) -> Iterator[BinaryIO]:
    """Gives a file that takes its name in the folder when the block ends well.

    Args:
        folder: Folder of the shards.
        name: Name of the file; an earlier one is replaced.
    """
    path = FileSystems.join(folder, name)
    # A runner may try a step twice at one time.
    aside = FileSystems.join(folder, f".{name}.{uuid.uuid4().hex}.new")
    with FileSystems.create(aside) as file:
        yield file
    if FileSystems.exists(path):
        FileSystems.delete([path])
    FileSystems.rename([aside], [path])
