"""The main job, end to end: log, graph, two models, comparison, export, server, answer."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tfmtl.cli.tables import metrics_table, rows_table

_START_SECONDS = 120


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for runs and export.")
    ] = Path("runs/demo"),
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Folder of the data; else TFMTL_DATA_HOME, else cache."),
    ] = None,
    user: Annotated[int, typer.Option("--user", help="User to recommend films to.")] = 5,
    comparison: Annotated[
        Path | None, typer.Option("--comparison", help="Another comparison than the demo's.")
    ] = None,
) -> None:
    """Train MMoE and MoGENet on MovieLens-1M, serve the better one and ask it for films."""
    from tfmtl.datasets import load
    from tfmtl.evaluation import Comparison, compare
    from tfmtl.export import export_model
    from tfmtl.training import load_run, mean_metric, whole_graph_states

    console = Console()
    started = time.monotonic()
    chosen = Comparison.from_yaml(comparison or Path(__file__).with_name("demo.yaml"))
    cells = list(compare(chosen, output, data_dir=data_dir, progress=True))
    results = {cell.label: cell for cell in cells}
    console.print(
        metrics_table(
            {label: cell.metrics["test"] for label, cell in results.items()}, title="test"
        )
    )
    best = max(cells, key=lambda cell: mean_metric(dict(cell.metrics["validation"]), "gauc"))
    console.print(f"best mean GAUC on validation: {best.label}; exporting it")
    run = load_run(output / best.label / f"seed-{best.seed}")
    states = whole_graph_states(run.model, run.bundle)
    served = output / "served"
    version = export_model(run.model, run.encoder, served, node_states=states)
    console.print(f"exported {version}")

    log = load(run.experiment.dataset.name, data_dir=data_dir, **run.experiment.dataset.options).log
    films = log.items
    assert films is not None
    assert log.user_ids is not None
    assert log.item_ids is not None
    schema = log.schema
    titles = dict(zip(films[schema.item].to_pylist(), films[schema.title].to_pylist(), strict=True))
    seen = set(log.item_ids[log.user_ids == user].tolist())
    candidates = [item for item in titles if item not in seen]
    answer = _ask_server(served, user, candidates)
    task = schema.task_names[0]
    ranking = sorted(zip(answer[task].tolist(), candidates, strict=True), reverse=True)[:10]
    rows = [
        {"rank": place, "title": titles[item], f"P({task})": probability}
        for place, (probability, item) in enumerate(ranking, start=1)
    ]
    console.print(rows_table(rows, title=f"top ten of {len(candidates)} films for user {user}"))
    console.print(f"demo finished in {time.monotonic() - started:.0f} s")


def _ask_server(served: Path, user: int, candidates: list[int]) -> dict:
    """Starts `tfmtl serve` in a process of its own and asks it for all candidates."""
    from tfmtl.serving import PredictionClient

    command = [sys.executable, "-m", "tfmtl.cli.main", "serve", str(served)]
    server = subprocess.Popen(
        [*command, "--name", "demo", "--port", "0", "--rest-port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with status {server.wait(_START_SECONDS)}")
        typer.echo(line.strip())
        address = line.split("gRPC ", 1)[1].split(",", 1)[0]
        with PredictionClient(address, "demo", timeout_s=60) as client:
            request = {"user_id": [user] * len(candidates), "item_id": candidates}
            return client.predict(request, signature_name="by_id")
    finally:
        server.terminate()
        server.wait()
