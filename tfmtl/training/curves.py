"""Plots the history of a run."""

from __future__ import annotations

import csv
from pathlib import Path


def plot_curves(history: Path, target: Path) -> None:
    """Draws training loss and validation metrics over epochs.

    Args:
        history: The run's `history.csv`.
        target: Picture to write, PNG.

    Raises:
        ValueError: If the history has no epoch.

    Example:
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = Path(folder) / "history.csv"
        ...     header = "epoch,loss,val_auc,val_gauc,val_log_loss"
        ...     _ = table.write_text(f"{header}{os.linesep}1,1,0.6,0.6,0.5")
        ...     plot_curves(table, Path(folder) / "curves.png")
        ...     (Path(folder) / "curves.png").exists()
        True
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with history.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{history} has no finished epoch to plot")
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(10, 3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = (("loss",), ("val_auc", "val_gauc"), ("val_log_loss",))
    for axis, names in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name in names:
            axis.plot(epochs, [float(row[name]) for row in rows], marker="o", label=name)
        axis.set_xlabel("epoch")
        axis.legend()
    aside = target.with_suffix(".partial.png")
    figure.savefig(aside)
    aside.replace(target)
