"""Sub-commands, thin over the library.

Imports of TensorFlow happen inside the commands, so that `tfmtl --help` answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tfmtl.cli.tables import metrics_table, rows_table

ExperimentFile = Annotated[Path, typer.Argument(help="Experiment, YAML.", show_default=False)]
RunPath = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the data; else TFMTL_DATA_HOME, else the cache."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override, section.field=value; may be repeated."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]


def fetch(
    name: Annotated[str, typer.Argument(help="Name of the dataset.", show_default=False)],
    data_dir: DataDir = None,
) -> None:
    """Make sure that a dataset is on disk."""
    from tfmtl.datasets import fetch as fetch_dataset

    typer.echo(fetch_dataset(name, data_dir=data_dir, progress=True))


def build_graph(
    experiment: ExperimentFile,
    output: Output,
    data_dir: DataDir = None,
    settings: Settings = None,
) -> None:
    """Build the graph of an experiment's training rows into a bundle."""
    from tfmtl.training import Experiment, prepare_data

    chosen = Experiment.from_yaml(experiment, settings or [])
    data = prepare_data(chosen, data_dir=data_dir, with_graph=True, progress=True)
    assert data.bundle is not None
    data.bundle.save(output)
    rows = [
        {"edge set": name, "nodes": len(csr.indptr) - 1, "edges": len(csr.indices)}
        for name, csr in data.bundle.edge_sets.items()
    ]
    Console().print(rows_table(rows, title=str(output)))


def train(
    experiment: ExperimentFile,
    output: Output,
    data_dir: DataDir = None,
    graph: Annotated[
        Path | None, typer.Option("--graph", help="Bundle that build-graph wrote.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run was stopped, or start it.")
    ] = False,
    settings: Settings = None,
) -> None:
    """Train an experiment's model into a run folder; alike in every process of a cluster."""
    from tfmtl.graph import GraphBundle, MacroGraph
    from tfmtl.training import (
        Cluster,
        Experiment,
        RunFolder,
        evaluate_log,
        prepare_data,
        serve_chief,
    )
    from tfmtl.training import train as train_experiment

    chosen = Experiment.from_yaml(experiment, settings or [])
    cluster = Cluster.from_environment(chosen.training.strategy)
    if cluster.job == "ps":
        serve_chief(chosen, cluster)
        return
    if graph is None and resume and RunFolder(output).graph.exists():
        graph = RunFolder(output).graph
    bundle = GraphBundle.load(graph) if graph is not None else None
    macro_graph = None
    if resume and RunFolder(output).macro_graph.exists():
        macro_graph = MacroGraph.load(RunFolder(output).macro_graph)
    data = prepare_data(
        chosen,
        data_dir=data_dir,
        bundle=bundle,
        macro_graph=macro_graph,
        progress=cluster.is_chief,
    )
    if cluster.only_serves:
        serve_chief(chosen, cluster, data=data)
        return
    model = train_experiment(
        chosen, output, data=data, resume=resume, progress=cluster.is_chief, cluster=cluster
    )
    if not cluster.is_chief:
        return
    metrics = evaluate_log(
        model,
        data.validation,
        bundle=data.bundle,
        batch_size=chosen.training.evaluation_batch_size,
    )
    Console().print(metrics_table({chosen.model.name: metrics}, title="validation"))


def evaluate(
    run: RunPath,
    data_dir: DataDir = None,
    part: Annotated[str, typer.Option("--part", help="validation or test.")] = "test",
) -> None:
    """Score a run's best epoch on held-out rows."""
    from tfmtl.evaluation import evaluate_run
    from tfmtl.training import load_run, prepare_data

    trained = load_run(run)
    data = prepare_data(
        trained.experiment,
        data_dir=data_dir,
        bundle=trained.bundle,
        macro_graph=trained.macro_graph,
        with_graph=False,
    )
    metrics = evaluate_run(trained.model, data, run, parts=[part])
    Console().print(metrics_table({trained.experiment.model.name: metrics[part]}, title=part))


def compare(
    comparison: Annotated[Path, typer.Argument(help="Comparison, YAML.", show_default=False)],
    output: Output,
    data_dir: DataDir = None,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Cells and trials run at the same time.")
    ] = 1,
) -> None:
    """Tune and train several models over several seeds; finished runs are not run again."""
    from tfmtl.evaluation import Comparison, write_report
    from tfmtl.evaluation import compare as run_cells

    chosen = Comparison.from_yaml(comparison)
    cells = list(run_cells(chosen, output, data_dir=data_dir, jobs=jobs, progress=True))
    for dataset in chosen.dataset_labels:
        report = write_report(
            [cell for cell in cells if cell.dataset == dataset],
            output / dataset,
            heading=f"{dataset}, test rows" if dataset else "Test rows",
            reference=chosen.reference,
        )
        typer.echo(report.read_text(encoding="utf-8"))


def rebuild_macro_graph(
    run: RunPath,
    output: Output,
    data_dir: DataDir = None,
    settings: Settings = None,
    regroup: Annotated[
        bool, typer.Option("--regroup", help="Group known users and items anew.")
    ] = False,
) -> None:
    """Build a run's macro graph from newer rows, with the macro nodes that its model knows."""
    from tfmtl.datasets import load
    from tfmtl.graph import build_macro_graph
    from tfmtl.training import Experiment, RunFolder, load_run

    trained = load_run(run)
    if trained.macro_graph is None:
        raise typer.BadParameter(f"the model of {run}, {trained.experiment.model.name}, has none")
    dataset = Experiment.from_yaml(RunFolder(run).experiment, settings or []).dataset
    loaded = load(dataset.name, data_dir=data_dir, **dataset.options)
    build_macro_graph(
        loaded.split.train,
        trained.encoder,
        trained.experiment.macro,
        history=loaded.history,
        previous=(trained.macro_graph, trained.encoder),
        regroup=regroup,
        folder=output,
        progress=True,
    )
    typer.echo(output)


def export(
    run: RunPath,
    output: Output,
    macro_graph: Annotated[
        Path | None,
        typer.Option("--macro-graph", help="Macro graph that rebuild-macro-graph wrote."),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="One task of a GRec, with its experts alone.")
    ] = None,
) -> None:
    """Write a run's model as the next SavedModel version under a folder."""
    from tfmtl.export import export_model
    from tfmtl.graph import MacroGraph
    from tfmtl.models import GRec
    from tfmtl.training import load_run, whole_graph_states

    trained = load_run(
        run, macro_graph=None if macro_graph is None else MacroGraph.load(macro_graph)
    )
    model = trained.model
    states = whole_graph_states(model, trained.bundle)
    if task is not None:
        if not isinstance(model, GRec):
            raise typer.BadParameter(
                f"--task exports a task of a grec; {run} holds a {trained.experiment.model.name}: "
                "leave it out"
            )
        model = model.for_task(task)
    typer.echo(export_model(model, trained.encoder, output, node_states=states))


def export_states(run: RunPath, output: Output) -> None:
    """Write the graph states of all users and items as Parquet shards."""
    from tfmtl.export import write_node_states
    from tfmtl.training import load_run, whole_graph_states

    trained = load_run(run)
    states = whole_graph_states(trained.model, trained.bundle)
    if states is None:
        raise typer.BadParameter(f"the model of {run}, {trained.experiment.model.name}, has none")
    write_node_states(states, trained.encoder, output, progress=True)
    typer.echo(output)


def serve(
    model: Annotated[Path, typer.Argument(help="Folder of versions.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="Name of the model.")] = "tfmtl",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port for gRPC; 0 takes a free one.")] = 8500,
    rest_port: Annotated[
        int, typer.Option("--rest-port", help="Port for REST; 0 takes a free one.")
    ] = 8501,
) -> None:
    """Serve a SavedModel over TF Serving's gRPC and REST until told to stop."""
    from tfmtl.serving import ModelServer

    server = ModelServer(name, model, host=host, grpc_port=port, rest_port=rest_port)
    server.serve_forever(
        on_ready=lambda: typer.echo(
            f"serving {name}: gRPC {server.grpc_address}, REST {server.rest_url}"
        )
    )


def predict(
    rows: Annotated[
        Path, typer.Argument(help="Rows to score: CSV or JSON lines.", show_default=False)
    ],
    address: Annotated[str, typer.Option("--address", help="gRPC address.")] = "127.0.0.1:8500",
    name: Annotated[str, typer.Option("--name", help="Name of the model.")] = "tfmtl",
    signature: Annotated[
        str, typer.Option("--signature", help="serving_default or by_id.")
    ] = "serving_default",
) -> None:
    """Ask a running server for the probabilities of rows; prints JSON lines."""
    from tfmtl.cli.request_rows import read_rows
    from tfmtl.serving import PredictionClient

    with PredictionClient(address, name) as client:
        answer = client.predict(read_rows(rows), signature_name=signature)
    for values in zip(*answer.values(), strict=True):
        typer.echo(json.dumps(dict(zip(answer, map(float, values), strict=True))))
