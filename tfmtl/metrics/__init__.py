"""Metrics of a task: exact on arrays, and as Keras metrics over a stream of batches."""

from tfmtl.metrics.auc import auc
from tfmtl.metrics.expected_calibration_error import expected_calibration_error
from tfmtl.metrics.gauc import GroupedAUC, gauc
from tfmtl.metrics.log_loss import log_loss
from tfmtl.metrics.relative_improvement import relative_improvement
from tfmtl.metrics.streaming_auc import StreamingAUC
from tfmtl.metrics.streaming_ece import StreamingECE
from tfmtl.metrics.streaming_gauc import StreamingGAUC
from tfmtl.metrics.streaming_log_loss import StreamingLogLoss
from tfmtl.metrics.task_metrics import TaskMetrics, task_metrics

__all__ = [
    "GroupedAUC",
    "StreamingAUC",
    "StreamingECE",
    "StreamingGAUC",
    "StreamingLogLoss",
    "TaskMetrics",
    "auc",
    "expected_calibration_error",
    "gauc",
    "log_loss",
    "relative_improvement",
    "task_metrics",
]
