"""Multi-task models: `tfrs.Model` subclasses, one per file."""

from tfmtl.models.mmoe import MMoE
from tfmtl.models.mogenet import MoGENet
from tfmtl.models.multi_task_model import MultiTaskModel
from tfmtl.models.prediction import predict_log
from tfmtl.models.registry import MODELS, build_model, default_hyperparameters
from tfmtl.models.shared_bottom import SharedBottom
from tfmtl.models.single_task import SingleTask

__all__ = [
    "MODELS",
    "MMoE",
    "MoGENet",
    "MultiTaskModel",
    "SharedBottom",
    "SingleTask",
    "build_model",
    "default_hyperparameters",
    "predict_log",
]
