"""The job from batches of rows and the shards of a graph to sub-graphs on disk."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam
import tensorflow as tf
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from tfmtl.graph import CHANNELS, edge_sets_of
from tfmtl.pipelines.beam.adjacency_shards import (
    INTERACTIONS,
    SIMILARITY,
    ReadAdjacency,
    read_document,
    write_document,
)
from tfmtl.pipelines.beam.row_batches import ROWS
from tfmtl.pipelines.beam.sample_subgraphs import SampleSubgraphs

SUBGRAPHS = "subgraphs.json"


def run_sampling_job(
    rows: str,
    graph: str,
    output: str,
    *,
    fan_out: Sequence[int] = (10, 10),
    channels: Sequence[str] = tuple(CHANNELS),
    mask_own_edges: bool = True,
    options: PipelineOptions | None = None,
) -> None:
    """Draws a sub-graph for every batch of rows and writes them as TFRecords.

    Args:
        rows: Folder that `write_row_batches` wrote.
        graph: Folder of the graph's shards.
        output: Folder for `subgraphs-*.tfrecord.gz` and `subgraphs.json`.
        fan_out: Neighbours drawn per hop.
        channels: What to walk, of `tfmtl.graph.CHANNELS`.
        mask_own_edges: Whether the edges that are the batch's rows are hidden from it.
        options: Options of the runner; the local one without.

    Raises:
        FileNotFoundError: If there are no batches, or the shards of a channel are missing.
        FileExistsError: If the output folder holds sub-graphs already.
        ValueError: If a channel or fan-out is not usable.
    """
    document = read_document(rows, ROWS)
    edge_sets = edge_sets_of(channels)
    read_document(graph, INTERACTIONS)
    if {"user_user", "item_item"} & set(edge_sets):
        read_document(graph, SIMILARITY)
    prefix = FileSystems.join(output, "subgraphs")
    if FileSystems.match([f"{prefix}-*"])[0].metadata_list:
        raise FileExistsError(f"{prefix}-* exist already; choose another folder or remove them")
    artifacts = FileSystems.join(output, "sampling_program")
    sample = SampleSubgraphs(fan_out, artifacts, channels=channels, mask_own_edges=mask_own_edges)
    with beam.Pipeline(options=options) as pipeline:
        inputs = {
            name: pipeline | f"Read {name}" >> ReadAdjacency(graph, name) for name in edge_sets
        }
        pattern = FileSystems.join(rows, "rows-*.tfrecord")
        inputs["rows"] = pipeline | "Read rows" >> beam.io.ReadFromTFRecord(pattern)
        _ = (
            inputs
            | sample
            | beam.io.WriteToTFRecord(
                prefix, file_name_suffix=".tfrecord.gz", compression_type=CompressionTypes.GZIP
            )
        )
    tf.io.gfile.rmtree(artifacts)
    sampled = {
        "channels": list(channels),
        "edge_sets": list(edge_sets),
        "fan_outs": {name: list(sizes) for name, sizes in sample.fan_outs.items()},
        "mask_own_edges": mask_own_edges,
    }
    write_document(output, SUBGRAPHS, document | sampled)
