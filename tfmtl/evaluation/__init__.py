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
from tfmtl.evaluation.run_telemetry import read_telemetry
from tfmtl.evaluation.search_space import Choice, FloatRange, IntRange
from tfmtl.evaluation.significance import (
    Difference,
    best_label,
    difference_csv,
    difference_table,
    differences,
)
from tfmtl.evaluation.telemetry_table import (
    summarize_telemetry,
    telemetry_csv,
    telemetry_table,
)
from tfmtl.evaluation.trial import Trial
from tfmtl.evaluation.tuning import Tuning
from tfmtl.evaluation.tuning_config import ModelTuning, TuningConfig
from tfmtl.evaluation.tuning_table import tuning_table

__all__ = [
    "MEAN",
    "Cell",
    "Choice",
    "Comparison",
    "Difference",
    "FloatRange",
    "IntRange",
    "ModelTuning",
    "RunCosts",
    "Summary",
    "Trial",
    "Tuning",
    "TuningConfig",
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
    "read_telemetry",
    "summarize",
    "summarize_telemetry",
    "telemetry_csv",
    "telemetry_table",
    "tuning_table",
    "write_report",
]
