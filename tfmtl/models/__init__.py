"""Multi-task models: `tfrs.Model` subclasses, one per file."""

from tfmtl.models.aitm import AITM
from tfmtl.models.carry_weights import carry_weights
from tfmtl.models.cgc import CGC
from tfmtl.models.cross_stitch import CrossStitch
from tfmtl.models.escm2 import ESCM2
from tfmtl.models.esmm import ESMM
from tfmtl.models.grec import GRec
from tfmtl.models.grec_for_task import GRecForTask
from tfmtl.models.home import HoME
from tfmtl.models.light_gcn import LightGCN
from tfmtl.models.macgnn import MacGNN
from tfmtl.models.mgoe import MGOE
from tfmtl.models.mmoe import MMoE
from tfmtl.models.mogenet import MoGENet
from tfmtl.models.multi_task_model import MultiTaskModel
from tfmtl.models.ngcf import NGCF
from tfmtl.models.omoe import OMoE
from tfmtl.models.ple import PLE
from tfmtl.models.pogcn import POGCN
from tfmtl.models.prediction import predict_log
from tfmtl.models.registry import MODELS, build_model, default_hyperparameters
from tfmtl.models.shared_bottom import SharedBottom
from tfmtl.models.single_task import SingleTask
from tfmtl.models.snr_trans import SNRTrans
from tfmtl.models.stem import STEM
from tfmtl.models.table_sizes import TableSize, check_memory, table_sizes

__all__ = [
    "AITM",
    "CGC",
    "ESCM2",
    "ESMM",
    "MGOE",
    "MODELS",
    "NGCF",
    "PLE",
    "POGCN",
    "STEM",
    "CrossStitch",
    "GRec",
    "GRecForTask",
    "HoME",
    "LightGCN",
    "MMoE",
    "MacGNN",
    "MoGENet",
    "MultiTaskModel",
    "OMoE",
    "SNRTrans",
    "SharedBottom",
    "SingleTask",
    "TableSize",
    "build_model",
    "carry_weights",
    "check_memory",
    "default_hyperparameters",
    "predict_log",
    "table_sizes",
]
