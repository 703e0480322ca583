"""The job from the shards of an interaction graph to those of its similarity graphs."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from tfmtl.graph import SimilarityConfig
from tfmtl.pipelines.beam.adjacency_shards import (
    INTERACTIONS,
    SIMILARITY,
    ReadAdjacency,
    WriteAdjacency,
    check_no_shards,
    read_document,
    write_document,
)
from tfmtl.pipelines.beam.top_k_similarity import TopKSimilarity

# Similarity graph -> the edges it is counted on, and the number of its nodes.
_SOURCES = {"user_user": ("item_user", "num_users"), "item_item": ("user_item", "num_items")}


def run_similarity_job(
    folder: str,
    config: SimilarityConfig,
    *,
    block_rows: int = 256,
    options: PipelineOptions | None = None,
) -> None:
    """Builds both similarity graphs of an interaction graph and writes their shards beside it.

    Args:
        folder: Folder that the adjacency job wrote; gets `user_user-*.parquet`,
            `item_item-*.parquet` and `similarity.json`.
        config: Measure and thresholds.
        block_rows: Users, or items, whose pairs a worker holds at one time.
        options: Options of the runner; the local one without.

    Raises:
        FileNotFoundError: If the adjacency job has not run.
        FileExistsError: If the folder holds similarity graphs already.
    """
    interactions = read_document(folder, INTERACTIONS)
    for name in _SOURCES:
        check_no_shards(folder, name)
    with beam.Pipeline(options=options) as pipeline:
        for name, (source, size) in _SOURCES.items():
            similarity = TopKSimilarity(interactions[size], config, block_rows=block_rows)
            _ = (
                pipeline
                | f"Read {source}" >> ReadAdjacency(folder, source)
                | f"Build {name}" >> similarity
                | f"Write {name}" >> WriteAdjacency(folder, name)
            )
    write_document(folder, SIMILARITY, config.model_dump())
