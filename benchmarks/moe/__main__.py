"""Measures routed experts and the fan-out of tasks; the last line is one JSON object.

    python -m benchmarks.moe
    python -m benchmarks.moe --rows 1024 --rows 4096 --output FILE

Functions that are compared are timed in turn, round by round; a ratio is the median over rounds.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import tensorflow as tf
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.moe import expert_cost, task_cost

ROWS = (1024, 4096)
ROUTINGS = ("task_sentence", "token")
BARS = {
    "expert_growth": 1.3,
    "sparse_vs_dense": 1.3 / expert_cost.SOME,
    "all_tasks_speedup": 8.0,
    "task_growth": 1.1,
}


def main(
    rows: Annotated[
        list[int] | None, typer.Option(help=f"Rows of a batch of experts; {ROWS} by default.")
    ] = None,
    request: Annotated[int, typer.Option(min=1, help="Rows of a request of all tasks.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that are timed.")] = 30,
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path(
        "docs/results/moe/results.json"
    ),
) -> None:
    console = Console()
    experts = []
    for count in rows or ROWS:
        for routing in ROUTINGS:
            typer.echo(f"experts, {count:,} rows, routing {routing} ...")
            experts.append(expert_cost.measure(count, routing, rounds))
    tasks = []
    for task_token in ("mixed", "late"):
        typer.echo(f"tasks, {request} rows, task token {task_token} ...")
        tasks.append(task_cost.measure(request, task_token, max(rounds // 3, 1)))
    results: dict[str, Any] = {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "command": shlex.join(["python", "-m", "benchmarks.moe", *sys.argv[1:]]),
        "bars": BARS,
        "experts": experts,
        "tasks": tasks,
        # The worst of all settings of the largest batch, and of all settings of tasks.
        **{
            name: max(
                value
                for own in experts
                if own["rows"] == max(rows or ROWS)
                for value in own[name].values()
            )
            for name in ("expert_growth", "sparse_vs_dense")
        },
        "all_tasks_speedup": min(own["all_tasks_speedup"] for own in tasks),
        "task_growth": max(own["task_growth"] for own in tasks),
        **task_cost.parameters_per_task(),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    table = Table("rows", "routing", "expert_growth", "sparse_vs_dense")
    for own in experts:
        ratios = [
            ", ".join(f"{part} {value:.3f}" for part, value in own[name].items())
            for name in ("expert_growth", "sparse_vs_dense")
        ]
        table.add_row(f"{own['rows']:,}", own["routing"], *ratios)
    console.print(table)
    for name, bar in BARS.items():
        console.print(f"{name}: {results[name]:.3f} (bar: {bar:.4g})")
    console.print(f"params_per_task: {results['params_per_task']}")
    typer.echo(json.dumps(results))


if __name__ == "__main__":
    typer.run(main)
