"""Evaluation of runs, and comparison of models over seeds."""

from tfmtl.evaluation.comparison import Cell, Comparison, compare
from tfmtl.evaluation.report import write_report
from tfmtl.evaluation.results_table import (
    MEAN,
    Summary,
    cost_table,
    csv_table,
    markdown_table,
    plot_summaries,
    summarize,
)
from tfmtl.evaluation.run_metrics import RunCosts, evaluate_run, read_costs, read_metrics
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
    "RunCosts",
    "Summary",
    "best_label",
    "compare",
    "cost_table",
    "csv_table",
    "difference_csv",
    "difference_table",
    "differences",
    "evaluate_run",
    "markdown_table",
    "plot_summaries",
    "read_costs",
    "read_metrics",
    "summarize",
    "write_report",
]
