"""Evaluation of runs, and comparison of models over seeds."""

from tfmtl.evaluation.comparison import Cell, Comparison, compare
from tfmtl.evaluation.report import write_report
from tfmtl.evaluation.results_table import (
    Summary,
    csv_table,
    markdown_table,
    plot_summaries,
    summarize,
)
from tfmtl.evaluation.run_metrics import evaluate_run, read_metrics

__all__ = [
    "Cell",
    "Comparison",
    "Summary",
    "compare",
    "csv_table",
    "evaluate_run",
    "markdown_table",
    "plot_summaries",
    "read_metrics",
    "summarize",
    "write_report",
]
