"""The job from the shards of an interaction graph to those of its macro graph."""

from __future__ import annotations

import uuid
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from tfmtl.data import FeatureEncoder
from tfmtl.graph import MacroConfig
from tfmtl.graph.build_macro_graph import edge_scores, item_categories
from tfmtl.graph.interaction_graph import checked_behaviors
from tfmtl.graph.macro_groups import category_groups
from tfmtl.pipelines.beam.adjacency_shards import (
    INTERACTIONS,
    LATEST_TIMES,
    ReadAdjacency,
    check_no_shards,
    read_document,
    write_document,
)
from tfmtl.pipelines.beam.load_encoder import load_encoder
from tfmtl.pipelines.beam.macro_grouping import MacroGrouping
from tfmtl.pipelines.beam.macro_rows import MacroRows
from tfmtl.pipelines.beam.macro_shards import (
    GROUPS,
    MACRO,
    SIDES,
    macro_row_schema,
    macro_row_table,
    write_groups,
)
from tfmtl.schema import ITEM_ID

_DEFAULTS = MacroConfig()
_EDGE_SETS = ("item_user", "user_item")
_ORIGIN = (
    "tasks",
    "time_window",
    "split_fingerprint",
    "history_fingerprint",
    "encoder_fingerprint",
)


def run_macro_job(
    graph: str,
    encoder_folder: str,
    output: str,
    config: MacroConfig = _DEFAULTS,
    *,
    groups: str | None = None,
    block_rows: int = 1024,
    options: PipelineOptions | None = None,
) -> None:
    """Coarsens an interaction graph into macro nodes and writes the macro graph's shards.

    The tables count all rows of the graph: they are version 0 of `tfmtl.graph.build_macro_graph`.
    Versions for training rows by `counting: out_of_fold` need the order of the log's rows, which
    the shards do not have: such a macro graph is for scoring. With `counting: history`, run the
    adjacency job and this one a second time on the history alone, with `groups` naming the first
    output, whose centres nodes then join by their rows of the history; `assemble_macro_graph` puts
    both together. Macro nodes of an earlier graph, `previous` there, are not carried over.

    Args:
        graph: Folder that the adjacency job wrote, of positive pairs and, for a log with times,
            with `latest_times`.
        encoder_folder: Where `FeatureEncoder.save` wrote.
        output: Folder for the arrays of groups, `user_rows-*.parquet`, `item_rows-*.parquet` and
            `macro.json`.
        config: Settings.
        groups: Output of a run on more rows with the same settings and encoder: nodes join the
            nearest of its centres, so that macro nodes mean the same. New centres are fitted
            without.
        block_rows: Users, or items, whose rows a worker holds at one time.
        options: Options of the runner; the local one without.

    Raises:
        FeatureEncoderError: If there is no encoder in the folder.
        FileNotFoundError: If the adjacency job, or the macro job of `groups`, has not run.
        FileExistsError: If the output folder holds a macro graph already.
        ValueError: If the graph was built with another encoder, other behaviours, other pairs or
            without times, `groups` with other settings, or `counting: history` has no history.
    """
    encoder = load_encoder(encoder_folder)
    document = read_document(graph, INTERACTIONS)
    _check_graph(graph, document, encoder, config, grouped=groups is not None)
    for side in SIDES:
        check_no_shards(output, f"{side}_rows")
    if FileSystems.exists(FileSystems.join(output, GROUPS)):
        raise FileExistsError(f"{output} holds {GROUPS} already; choose another folder")
    scores = edge_scores(encoder.schema, config)
    sizes = {f"num_{side}s": document[f"num_{side}s"] for side in SIDES}
    settings = {
        "encoder_fingerprint": encoder.fingerprint(),
        "macro": config.model_dump(mode="json"),
    }
    if groups is None:
        made = {"id": uuid.uuid4().hex, "counts": _counts(encoder, config)} | settings
    else:
        made = _taken_over(groups, settings)
    grouping = MacroGrouping(
        config,
        scores,
        **sizes,
        encoder_folder=encoder_folder,
        centers_folder=groups,
        block_rows=block_rows,
    )
    with beam.Pipeline(options=options) as pipeline:
        edges = {
            name: pipeline | f"Read {name}" >> ReadAdjacency(graph, name) for name in _EDGE_SETS
        }
        grouped = edges | grouping
        for side in SIDES:
            _ = grouped[side] | f"Write {side}s" >> beam.Map(write_groups, output, side)
    write_document(output, GROUPS, made)
    counts = made["counts"]
    num_tasks = len(encoder.schema.task_names)
    with beam.Pipeline(options=options) as pipeline:
        names = [*_EDGE_SETS, *(LATEST_TIMES.values() if document.get("latest_times") else ())]
        edges = {name: pipeline | f"Read {name}" >> ReadAdjacency(graph, name) for name in names}
        rows = edges | MacroRows(output, scores, recent=config.recent, block_rows=block_rows)
        for side, other in (SIDES, SIDES[::-1]):
            width = (num_tasks + 1) * (counts[other] + 1) + counts[side] + 1
            schema = macro_row_schema(width, config.recent, num_tasks)
            _ = (
                rows[side]
                | f"Table of {side}s" >> beam.Map(macro_row_table, schema)
                | f"Write {side}s"
                >> beam.io.WriteToParquetBatched(
                    FileSystems.join(output, f"{side}_rows"),
                    schema,
                    codec="zstd",
                    file_name_suffix=".parquet",
                )
            )
    manifest = {name: document["manifest"][name] for name in _ORIGIN} | {"macro": settings["macro"]}
    write_document(
        output,
        MACRO,
        sizes
        | {f"num_{side}_nodes": counts[side] for side in SIDES}
        | {
            "scores": scores.tolist(),
            "groups": made["id"],
            "include_training_rows": document["manifest"]["include_training_rows"],
            "manifest": manifest,
        },
    )


def _check_graph(
    graph: str,
    document: dict[str, Any],
    encoder: FeatureEncoder,
    config: MacroConfig,
    grouped: bool,
) -> None:
    manifest = document["manifest"]
    if manifest["encoder_fingerprint"] != encoder.fingerprint():
        raise ValueError(
            f"{graph}: expected a graph of the encoder {encoder.fingerprint()}; received one of "
            f"{manifest['encoder_fingerprint']}: give the encoder that the adjacency job had, or "
            "run that job again"
        )
    chosen = checked_behaviors(encoder.schema, config.behaviors)
    recorded = manifest["behaviors"] or list(encoder.schema.task_names)
    if manifest["edges"] != "positive" or set(recorded) != set(chosen):
        raise ValueError(
            f"{graph}: expected a graph of edges 'positive' and behaviours {sorted(chosen)}; "
            f"received edges {manifest['edges']!r} and behaviours {sorted(recorded)}: run the "
            "adjacency job with these, or change macro.behaviors"
        )
    if encoder.schema.time is not None and not document.get("latest_times"):
        raise ValueError(
            f"{graph}: expected the time of each pair's latest row, as the log has times; received "
            "a graph without: run the adjacency job with latest_times (--latest-times)"
        )
    if grouped:
        return
    if not manifest["include_training_rows"]:
        raise ValueError(
            f"{graph}: expected a graph with the training rows, which groups come from; received "
            "one of the history alone: run this job on a graph of all rows first, and name its "
            "output as groups"
        )
    if config.counting == "history" and manifest["history_fingerprint"] is None:
        raise ValueError(
            f"{graph}: counting: history needs rows older than the log; received a graph without: "
            "run the adjacency job with a history, or set macro.counting to out_of_fold"
        )


def _counts(encoder: FeatureEncoder, config: MacroConfig) -> dict[str, int]:
    """Numbers of macro nodes."""
    categories = item_categories(encoder, config.item_groups)
    if categories is None:
        return {"user": config.user_nodes, "item": config.item_nodes}
    numbers = category_groups(categories, encoder.vocabularies[ITEM_ID].size)
    return {"user": config.user_nodes, "item": int(numbers.max(initial=0))}


def _taken_over(groups: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run says of its groups, which must be of the same settings."""
    made = read_document(groups, GROUPS)
    for name, expected in settings.items():
        if made[name] != expected:
            raise ValueError(
                f"{groups}: expected groups of the same {name}, {expected}; received {made[name]}: "
                "give both runs the same encoder and settings"
            )
    return made
