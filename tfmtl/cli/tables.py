"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def rows_table(rows: Sequence[Mapping[str, Any]], *, title: str) -> Table:
    """A table with one line per row and the keys of the first row as its head."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        numeric = isinstance(rows[0][name], (int, float))
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def metrics_table(metrics: Mapping[str, Mapping[str, Any]], *, title: str) -> Table:
    """`TaskMetrics` per model and task, side by side."""
    rows = [
        {
            "task": task,
            "model": label,
            "AUC": values[task].auc,
            "GAUC": values[task].gauc,
            "log loss": values[task].log_loss,
            "ECE": values[task].ece,
            "rows": values[task].rows,
            "positives": values[task].positives,
        }
        for task in next(iter(metrics.values()))
        for label, values in metrics.items()
    ]
    return rows_table(rows, title=title)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
