"""Measures macro graphs and MGOE over logs of growing size; the last line is one JSON object.

    python -m benchmarks.macro
    python -m benchmarks.macro --sizes 1000000 --sizes 10000000 --output FILE

Every size is built in a process of its own, so that its peak memory is its own; the log is
simulated in another one and not timed. The build is the fastest of up to three; the first, of a
tiny log, compiles. Models of all sizes are then open at once, each in its process, and do a round
of calls in turn, so that what else the machine does strikes all alike: a time is the least of the
rounds' medians, and a growth the median of the rounds' ratios of the largest to the smallest size.

Keras' Adam updates every row of an embedding table in every step, so that its steps grow with the
number of users and items. Adagrad updates the rows of the batch alone.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import shlex
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.macro import building, running
from benchmarks.macro.growths import BARS, build_growths, call_growth
from benchmarks.macro.simulated_log import write_log

SIZES = (1_000_000, 10_000_000, 100_000_000)
# Adam would need some 20 GB at the largest size. The last one gives `training_growth`.
OPTIMIZERS = ("adagrad",)
ROUNDS = 40
SHOWN = {
    "edges": "{:,.0f}",
    "largest_degree": "{:,.0f}",
    "stores_s": "{:.2f}",
    "macro_graph_s": "{:.2f}",
    "macro_graph_s_per_million_edges": "{:.2f}",
    "build_s_per_million_edges": "{:.2f}",
    "build_peak_gb": "{:.2f}",
    "macro_graph_gb": "{:.2f}",
}


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _built(size: int, folder: Path) -> dict[str, float]:
    """Builds a simulated log's macro graph in `folder`."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as log:
        with _process() as process:
            process.submit(write_log, size, Path(log)).result()
        with _process() as process:
            return process.submit(building.measure, size, Path(log), folder).result()


def _called(part: str, folders: dict[int, Path]) -> tuple[dict[int, dict[str, float]], float]:
    """Times and peaks of one part by size, and the growth of the times."""
    with ExitStack() as stack:
        processes = {size: stack.enter_context(_process()) for size in folders}
        for size, process in processes.items():
            process.submit(running.open_model, part, folders[size]).result()
        rounds = [
            {size: process.submit(running.round_ms).result() for size, process in processes.items()}
            for _ in range(ROUNDS)
        ]
        results = {
            size: {
                f"{part}_ms": min(own[size] for own in rounds),
                f"{part}_peak_gb": process.submit(running.peak_gb).result(),
            }
            for size, process in processes.items()
        }
    return results, call_growth(rounds)


def _table(sizes: dict[int, dict[str, float]], parts: list[str]) -> Table:
    shown = SHOWN | {f"{part}_ms": "{:.1f}" for part in parts}
    shown |= {f"{part}_peak_gb": "{:.2f}" for part in parts}
    table = Table("rows of the log", *(f"{size:,}" for size in sizes))
    for name, form in shown.items():
        table.add_row(name, *(form.format(own[name]) for own in sizes.values()))
    return table


def _write(results: dict[str, Any], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def main(
    sizes: Annotated[
        list[int] | None, typer.Option(help=f"Rows of the simulated logs; {SIZES} by default.")
    ] = None,
    optimizers: Annotated[
        list[str] | None,
        typer.Option(help=f"Keras optimisers to train with; {OPTIMIZERS} by default."),
    ] = None,
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path(
        "docs/results/macro_scale/results.json"
    ),
) -> None:
    by_size: dict[int, dict[str, float]] = {}
    results: dict[str, Any] = {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "command": shlex.join(["python", "-m", "benchmarks.macro", *sys.argv[1:]]),
        "macro_nodes": building.NODES,
        "bars": BARS,
        "sizes": by_size,
    }
    trained = list(optimizers or OPTIMIZERS)
    parts = [running.INFERENCE, *trained]
    with tempfile.TemporaryDirectory() as parent:
        folders = {size: Path(parent) / f"macro_graph_{size}" for size in sorted(sizes or SIZES)}
        for size, folder in folders.items():
            typer.echo(f"building from {size:,} rows ...")
            by_size[size] = _built(size, folder)
        results["build_peak_gb"] = max(own["build_peak_gb"] for own in by_size.values())
        results |= build_growths(by_size)
        for part in parts:
            # Hours of work are kept even where the next part runs out of memory.
            _write(results, output)
            typer.echo(f"{part} ...")
            called, growth = _called(part, folders)
            for size, own in called.items():
                by_size[size] |= own
            results[f"{part}_growth"] = growth
    results["training_growth"] = results[f"{trained[-1]}_growth"]
    _write(results, output)
    console = Console()
    console.print(_table(by_size, parts))
    for name, value in results.items():
        if name in BARS or "_growth" in name:
            console.print(f"{name}: {value:.3f} (bar: {BARS.get(name, 'none')})")
    typer.echo(json.dumps(results))


if __name__ == "__main__":
    typer.run(main)
