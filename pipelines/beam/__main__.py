"""Command line of the Beam jobs: `python -m tfmtl.pipelines.beam`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console
from rich.text import Text

from tfmtl.graph import CHANNELS, MacroConfig, SimilarityConfig
from tfmtl.graph.interaction_graph import Edges
from tfmtl.pipelines import beam as jobs
from tfmtl.training import Experiment
from tfmtl.training.yaml_document import parse_yaml, validated

_DEFAULTS = SimilarityConfig()

app = typer.Typer(
    name="python -m tfmtl.pipelines.beam",
    help="Beam jobs: graphs and sub-graphs of logs that one machine does not hold. Options that a "
    "job does not know, such as --runner, go to Beam.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_BEAM_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}
BlockRows = Annotated[
    int, typer.Option("--block-rows", help="Users or items that a worker holds at a time.")
]
EncoderFolder = Annotated[str, typer.Option("--encoder", help="Folder of the saved encoder.")]
GraphFolder = Annotated[str, typer.Option("--graph", help="Folder of the graph's shards.")]


def _options(context: typer.Context) -> PipelineOptions:
    return PipelineOptions(context.args)


@app.command()
def prepare(
    experiment: Annotated[Path, typer.Argument(help="Experiment, YAML.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Folder of the data.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override, section.field=value.")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the rows to draw for.")] = 1,
) -> None:
    """Write an experiment's encoder, training rows and batches: what the jobs read."""
    chosen = Experiment.from_yaml(experiment, settings or [])
    batches = jobs.prepare_inputs(chosen, output, data_dir=data_dir, epochs=epochs)
    typer.echo(f"{output}: encoder, training rows, {batches} batches")


@app.command(context_settings=_BEAM_OPTIONS)
def adjacency(
    context: typer.Context,
    encoder: EncoderFolder,
    graph: GraphFolder,
    train: Annotated[
        list[str] | None, typer.Option("--train", help="Parquet files of training rows, a glob.")
    ] = None,
    history: Annotated[
        list[str] | None, typer.Option("--history", help="Parquet files of earlier rows, a glob.")
    ] = None,
    edges: Annotated[Edges, typer.Option("--edges", help="Pairs that are edges.")] = "positive",
    behavior: Annotated[
        list[str] | None, typer.Option("--behavior", help="Task whose positives count; repeatable.")
    ] = None,
    before: Annotated[
        float | None, typer.Option("--before", help="Leave out rows of this time or later.")
    ] = None,
    latest_times: Annotated[
        bool,
        typer.Option("--latest-times", help="Write each pair's latest time, for a macro graph."),
    ] = False,
    block_rows: BlockRows = 1024,
) -> None:
    """Build the interaction graph of Parquet files."""
    counts = jobs.run_adjacency_job(
        train or [],
        encoder,
        graph,
        history=history or [],
        edges=edges,
        behaviors=tuple(behavior) if behavior else None,
        before=before,
        latest_times=latest_times,
        block_rows=block_rows,
        options=_options(context),
    )
    typer.echo(f"{graph}: {counts.rows} rows, {counts.unknown} with a user or item not known")


@app.command(context_settings=_BEAM_OPTIONS)
def similarity(
    context: typer.Context,
    graph: GraphFolder,
    measure: Annotated[
        Literal["count", "cosine", "jaccard"], typer.Option("--measure")
    ] = _DEFAULTS.measure,
    min_degree: Annotated[int, typer.Option("--min-degree")] = _DEFAULTS.min_degree,
    top_k: Annotated[int, typer.Option("--top-k")] = _DEFAULTS.top_k,
    min_common: Annotated[int, typer.Option("--min-common")] = _DEFAULTS.min_common,
    max_pivot_degree: Annotated[
        int, typer.Option("--max-pivot-degree")
    ] = _DEFAULTS.max_pivot_degree,
    block_rows: Annotated[
        int, typer.Option("--block-rows", help="Users or items paired by a worker at a time.")
    ] = 256,
) -> None:
    """Build the graphs of similar users and similar items beside an interaction graph."""
    config = SimilarityConfig(
        measure=measure,
        min_degree=min_degree,
        top_k=top_k,
        min_common=min_common,
        max_pivot_degree=max_pivot_degree,
    )
    jobs.run_similarity_job(graph, config, block_rows=block_rows, options=_options(context))
    typer.echo(f"{graph}: user_user and item_item")


@app.command()
def assemble(
    graph: GraphFolder,
    output: Annotated[Path, typer.Option("--output", "-o", help="Bundle to write.")],
) -> None:
    """Read the shards of a graph into the bundle that training opens."""
    bundle = jobs.assemble_graph_bundle(graph)
    bundle.save(output)
    edges = ", ".join(f"{name} {store.num_edges}" for name, store in bundle.edge_sets.items())
    typer.echo(f"{output}: {edges}")


@app.command(context_settings=_BEAM_OPTIONS)
def macro(
    context: typer.Context,
    graph: GraphFolder,
    encoder: EncoderFolder,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder to write.")],
    experiment: Annotated[
        Path | None, typer.Option("--experiment", help="Experiment whose macro section to follow.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Setting of the macro section, field=value.")
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option("--groups", help="Output of a run on more rows, to share its macro nodes."),
    ] = None,
    block_rows: BlockRows = 1024,
) -> None:
    """Build the macro graph of an interaction graph."""
    chosen: dict[str, Any] = {}
    if experiment is not None:
        chosen = Experiment.from_yaml(experiment).macro.model_dump()
    for setting in settings or []:
        field, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"expected --set field=value; received {setting!r}")
        chosen[field.removeprefix("macro.")] = parse_yaml(value)
    jobs.run_macro_job(
        graph,
        encoder,
        output,
        validated(MacroConfig, chosen),
        groups=groups,
        block_rows=block_rows,
        options=_options(context),
    )
    typer.echo(f"{output}: macro graph")


@app.command("assemble-macro")
def assemble_macro(
    macro: Annotated[str, typer.Option("--macro", help="Folder of the macro graph's shards.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Macro graph to write.")],
    history: Annotated[
        str | None, typer.Option("--history", help="Folder of the shards of the history alone.")
    ] = None,
) -> None:
    """Read the shards of a macro graph into the one that models read."""
    graph = jobs.assemble_macro_graph(macro, history=history, output=output)
    versions = "1 version, for scoring alone" if graph.num_versions == 1 else "2 versions"
    typer.echo(
        f"{output}: {graph.num_user_nodes} macro users, {graph.num_item_nodes} macro items, "
        f"{versions}"
    )


@app.command(context_settings=_BEAM_OPTIONS)
def sample(
    context: typer.Context,
    rows: Annotated[str, typer.Option("--rows", help="Folder of the batches of rows.")],
    graph: GraphFolder,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder to write.")],
    fan_out: Annotated[
        list[int] | None, typer.Option("--fan-out", help="Neighbours, once per hop.")
    ] = None,
    channel: Annotated[
        list[str] | None, typer.Option("--channel", help="Channel to walk; all without.")
    ] = None,
    mask_own_edges: Annotated[
        bool, typer.Option(help="Hide the edges that are a batch's rows from it.")
    ] = True,
) -> None:
    """Draw a sub-graph for every batch of rows with TF-GNN's Beam sampler."""
    jobs.run_sampling_job(
        rows,
        graph,
        output,
        fan_out=fan_out or (10, 10),
        channels=channel or tuple(CHANNELS),
        mask_own_edges=mask_own_edges,
        options=_options(context),
    )
    typer.echo(f"{output}: sub-graphs")


def main() -> None:
    """Runs the command; an expected error ends as one line on standard error and status 1.

    The variable `TFMTL_TRACEBACK` shows where it came from.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        app()
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        if os.environ.get("TFMTL_TRACEBACK"):
            raise
        line = Text.assemble(("error:", "bold red"), " ", " ".join(str(error).split()))
        Console(stderr=True).print(line, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
