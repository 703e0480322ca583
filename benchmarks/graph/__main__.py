"""Measures the graph room; the last line is one JSON object.

    python -m benchmarks.graph --data-dir FOLDER
    python -m benchmarks.graph --only sampling --only similarity

Every part runs in a process of its own, so that its peak memory is its own. TF-GNN's sampler runs
beside ours in one process; `sparse_dot_topn` is measured where it is installed. PyG's samples per
second are those of the same model on the reference machine with two cores, not measured here.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.graph import sampling, scale, similarity, training

PARTS = ("sampling", "similarity", "scale", "training")


def _measure(part: str, data_dir: Path | None) -> dict[str, object]:
    results: dict[str, object] = {
        "sampling": sampling.measure,
        "similarity": similarity.measure,
        "scale": scale.measure,
        "training": lambda: training.measure(data_dir),
    }[part]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**results, f"{part}_peak_gb": peak}


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Some of {PARTS}; all by default.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data; a simulated log without it.")
    ] = None,
) -> None:
    results: dict[str, object] = {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }
    context = multiprocessing.get_context("spawn")
    for part in only or PARTS:
        typer.echo(f"{part} ...")
        with context.Pool(1) as pool:
            results |= pool.apply(_measure, (part, data_dir))
    typer.echo(json.dumps(results))


if __name__ == "__main__":
    typer.run(main)
