"""Measures training steps; the last line is one JSON object.

    python -m benchmarks.training
    python -m benchmarks.training --rounds 30 --output FILE

An MMoE of this package against the same one written by hand in Keras and DeepCTR's, a table of 20
million ids against one of 200 thousand, and every weighting of tasks against equal weights. DeepCTR
must be there: `pip install --no-deps deepctr==0.9.4`. Contestants are timed in turn, round by
round; a ratio is the median over rounds.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

# DeepCTR's way to the Keras that this package uses.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.training import mmoe_speed, table_growth, weighting_cost

BARS = {"mmoe_speedup": 1.5, "table_growth": 1.2}


def main(
    rows: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 4096,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that are timed.")] = 20,
    ids: Annotated[int, typer.Option(min=1, help="Ids of each feature of the MMoE.")] = 100_000,
    largest: Annotated[int, typer.Option(min=100, help="Ids of the largest table.")] = 20_000_000,
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path(
        "docs/results/training/results.json"
    ),
) -> None:
    console = Console()
    typer.echo(f"MMoE, {rows:,} rows, {rounds} rounds ...")
    mmoe = mmoe_speed.measure(rows, ids, rounds)
    typer.echo(f"tables of up to {largest:,} ids, {rounds} rounds ...")
    tables = table_growth.measure(rows, largest, rounds)
    typer.echo(f"weightings, {rows:,} rows, {rounds} rounds ...")
    weightings = weighting_cost.measure(rows, rounds)
    results: dict[str, Any] = {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "command": shlex.join(["python", "-m", "benchmarks.training", *sys.argv[1:]]),
        "bars": BARS,
        "mmoe": mmoe,
        "tables": tables,
        "weightings": weightings,
        "mmoe_speedup": mmoe["speedup"]["float32"],
        "table_growth": tables["growth"],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = output.with_suffix(".partial")
    aside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    aside.replace(output)
    table = Table("model", "ms per step", "rows per second")
    for name, milliseconds in mmoe["milliseconds"].items():
        table.add_row(name, f"{milliseconds:.1f}", f"{rows / milliseconds * 1e3:,.0f}")
    console.print(table)
    for precision, speedup in mmoe["speedup"].items():
        console.print(f"speedup, {precision}: {speedup:.3f}")
    costs = Table("weighting", "ms per step", "times equal weights")
    for name, times in weightings["times_static"].items():
        costs.add_row(name, f"{weightings['milliseconds'][name]:.1f}", f"{times:.2f}")
    console.print(costs)
    for name in BARS:
        console.print(f"{name}: {results[name]:.3f} (bar: {BARS[name]})")
    typer.echo(json.dumps(results))


if __name__ == "__main__":
    typer.run(main)
