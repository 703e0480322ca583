"""Experiments, training, checkpoints, run folders."""

from tfmtl.training.curves import plot_curves
from tfmtl.training.experiment import (
    DatasetConfig,
    Experiment,
    ExperimentError,
    GraphConfig,
    ModelConfig,
    TrainingConfig,
)
from tfmtl.training.freed_memory import keep_freed_memory
from tfmtl.training.prepared_data import PreparedData, prepare_data
from tfmtl.training.progress_bar import ProgressBar
from tfmtl.training.run_folder import RunFolder, TrainedRun, load_run
from tfmtl.training.telemetry import Telemetry
from tfmtl.training.telemetry_plot import plot_telemetry
from tfmtl.training.train import train
from tfmtl.training.training_state import CheckpointError, TrainingState
from tfmtl.training.validation_metrics import (
    ValidationMetrics,
    evaluate_log,
    mean_metric,
    whole_graph_states,
)

__all__ = [
    "CheckpointError",
    "DatasetConfig",
    "Experiment",
    "ExperimentError",
    "GraphConfig",
    "ModelConfig",
    "PreparedData",
    "ProgressBar",
    "RunFolder",
    "Telemetry",
    "TrainedRun",
    "TrainingConfig",
    "TrainingState",
    "ValidationMetrics",
    "evaluate_log",
    "keep_freed_memory",
    "load_run",
    "mean_metric",
    "plot_curves",
    "plot_telemetry",
    "prepare_data",
    "train",
    "whole_graph_states",
]
