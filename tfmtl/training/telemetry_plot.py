"""Plots the telemetry of a run."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_GATE, _COSINE = "telemetry/gate/", "telemetry/gradient_cosine/"


def plot_telemetry(history: Path, target: Path) -> bool:
    """Draws the load of experts in the last epoch, gate entropies and gradient cosines over epochs.

    The load of an expert is drawn as a multiple of 1 / E, the share it would have if its gate
    weighed all E experts alike; experts that a gate does not see stay white. Panels for which the
    history has no numbers are left out.

    Args:
        history: The run's `history.csv`.
        target: Picture to write, PNG.

    Returns:
        Whether the history has telemetry; without there is no picture.

    Example:
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = Path(folder) / "history.csv"
        ...     header = "epoch,telemetry/gradient_cosine/click/like"
        ...     _ = table.write_text(f"{header}{os.linesep}1,0.3")
        ...     plot_telemetry(table, Path(folder) / "telemetry.png")
        True
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with history.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else ()) if name.startswith("telemetry/")]
    loads: dict[str, dict[str, float]] = {}
    entropies, cosines = [], []
    for name in names:
        gate, _, value = name.removeprefix(_GATE).rpartition("/")
        if name.startswith(_COSINE):
            cosines.append(name)
        elif name.startswith(_GATE) and value == "entropy":
            entropies.append(name)
        elif name.startswith(_GATE):
            loads.setdefault(gate, {})[value.removeprefix("load_")] = float(rows[-1][name])
    panels = [panel for panel in (loads, entropies, cosines) if panel]
    if not panels:
        return False
    height = max(3.0, 0.3 * len(loads) + 2)
    figure = Figure(figsize=(5 * len(panels), height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = iter(np.atleast_1d(figure.subplots(1, len(panels))))
    if loads:
        _draw_loads(next(axes), loads)
    for label, prefix, chosen in (
        ("gate entropy", _GATE, entropies),
        ("gradient cosine", _COSINE, cosines),
    ):
        if chosen:
            _draw_over_epochs(next(axes), label, prefix, chosen, rows)
    aside = target.with_suffix(".partial.png")
    figure.savefig(aside)
    aside.replace(target)
    return True


def _draw_loads(axis: Any, loads: Mapping[str, Mapping[str, float]]) -> None:
    experts = list(dict.fromkeys(expert for own in loads.values() for expert in own))
    shares = [
        [own[expert] * len(own) if expert in own else np.nan for expert in experts]
        for own in loads.values()
    ]
    image = axis.imshow(shares, aspect="auto", vmin=0, vmax=2)
    axis.figure.colorbar(image, ax=axis, extend="max", label="expert load, multiples of 1 / E")
    axis.set_xticks(range(len(experts)), experts, rotation=90)
    axis.set_yticks(range(len(loads)), list(loads))


def _draw_over_epochs(
    axis: Any,
    label: str,
    prefix: str,
    names: Sequence[str],
    rows: Sequence[Mapping[str, str]],
) -> None:
    epochs = [int(row["epoch"]) for row in rows]
    for name in names:
        line = name.removeprefix(prefix).removesuffix("/entropy")
        axis.plot(epochs, [float(row[name]) for row in rows], marker="o", label=line)
    axis.set_xlabel("epoch")
    axis.set_ylabel(label)
    axis.legend(fontsize="small")
