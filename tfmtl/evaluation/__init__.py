"""Evaluation of runs, and comparison of models over seeds."""

from tfmtl.evaluation.comparison import Cell, Comparison, compare
from tfmtl.evaluation.report import write_report
from tfmtl.evaluation.results_table import (
    MEAN,
    Summary,
    csv_table,
    markdown_table,
    plot_summaries,
    summarize,
)
from tfmtl.evaluation.run_metrics import evaluate_run, read_metrics
from tfmtl.evaluation.significance import (
    Difference,
    best_label,
    difference_csv,
    difference_table,
    differences,
)

__all__ = [
    "MEAN",
    "Cell",
    "Comparison",
    "Difference",
    "Summary",
    "best_label",
    "compare",
    "csv_table",
    "difference_csv",
    "difference_table",
    "differences",
    "evaluate_run",
    "markdown_table",
    "plot_summaries",
    "read_metrics",
    "summarize",
    "write_report",
]
