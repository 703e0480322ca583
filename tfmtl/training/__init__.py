"""Experiments, training, checkpoints, run folders."""

from tfmtl.training.cluster import Cluster, ClusterError
from tfmtl.training.curves import plot_curves
from tfmtl.training.experiment import (
    DatasetConfig,
    Experiment,
    ExperimentError,
    GraphConfig,
    ModelConfig,
    TrainingConfig,
)
from tfmtl.training.finite_losses import FiniteLosses, NonFiniteLossError
from tfmtl.training.freed_memory import keep_freed_memory
from tfmtl.training.lazy_adam import LazyAdam
from tfmtl.training.precision_policy import precision_policy
from tfmtl.training.prepared_data import PreparedData, prepare_data
from tfmtl.training.progress_bar import ProgressBar
from tfmtl.training.run_folder import RunFolder, TrainedRun, load_run
from tfmtl.training.serve_chief import serve_chief
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
from tfmtl.training.warm_up import WarmUp
from tfmtl.training.weight_average import WeightAverage

__all__ = [
    "CheckpointError",
    "Cluster",
    "ClusterError",
    "DatasetConfig",
    "Experiment",
    "ExperimentError",
    "FiniteLosses",
    "GraphConfig",
    "LazyAdam",
    "ModelConfig",
    "NonFiniteLossError",
    "PreparedData",
    "ProgressBar",
    "RunFolder",
    "Telemetry",
    "TrainedRun",
    "TrainingConfig",
    "TrainingState",
    "ValidationMetrics",
    "WarmUp",
    "WeightAverage",
    "evaluate_log",
    "keep_freed_memory",
    "load_run",
    "mean_metric",
    "plot_curves",
    "plot_telemetry",
    "precision_policy",
    "prepare_data",
    "serve_chief",
    "train",
    "whole_graph_states",
]
