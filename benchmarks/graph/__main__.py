"""Measures the graph room; the last line is one JSON object.

    python -m benchmarks.graph --data-dir FOLDER
    python -m benchmarks.graph --only sampling --only similarity

Every part runs in a process of its own, so that its peak memory is its own. TF-GNN's sampler runs
beside ours in one process; `sparse_dot_topn` is measured where it is installed, and the same model
in PyG where `--pyg-python` names a Python that has it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.graph.parts import PARTS, measure


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Some of {PARTS}; all by default.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data; a simulated log without it.")
    ] = None,
    pyg_python: Annotated[
        Path | None, typer.Option(help="A Python with torch, torch_geometric and torch_sparse.")
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
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            own = pool.submit(measure, part, data_dir, pyg_python).result()
        typer.echo("\n".join(f"  {name}: {value}" for name, value in own.items()))
        results |= own
    typer.echo(json.dumps(results))


if __name__ == "__main__":
    typer.run(main)
