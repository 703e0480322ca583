"""Logs, splits, vocabularies, feature encoding and the `tf.data` input pipeline."""

import importlib
from typing import TYPE_CHECKING, Any

from tfmtl.data.causal_statistics import CausalStatistics
from tfmtl.data.encoded_log import EncodedLog
from tfmtl.data.entity_table import EntityTable
from tfmtl.data.event_histories import with_event_histories
from tfmtl.data.feature_encoder import FeatureEncoder, FeatureEncoderError
from tfmtl.data.input_spec import InputSpec
from tfmtl.data.interaction_log import (
    HeldOutLog,
    InteractionLog,
    LogError,
    TrainingLog,
    require_training,
)
from tfmtl.data.splits import (
    Split,
    split_by_time,
    split_leave_one_out,
    split_per_user_by_time,
    split_random,
)
from tfmtl.data.statistics_config import StatisticsConfig
from tfmtl.data.text_vectors import embed_column, embed_texts
from tfmtl.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tfmtl.data.pipeline import evaluation_dataset, training_dataset

__all__ = [
    "CausalStatistics",
    "EncodedLog",
    "EntityTable",
    "FeatureEncoder",
    "FeatureEncoderError",
    "HeldOutLog",
    "InputSpec",
    "InteractionLog",
    "LogError",
    "Split",
    "StatisticsConfig",
    "TrainingLog",
    "Vocabulary",
    "embed_column",
    "embed_texts",
    "evaluation_dataset",
    "require_training",
    "split_by_time",
    "split_leave_one_out",
    "split_per_user_by_time",
    "split_random",
    "training_dataset",
    "with_event_histories",
]


def __getattr__(name: str) -> Any:
    # The pipeline alone needs TensorFlow: reading and splitting a log does not wait for it.
    if name in ("evaluation_dataset", "training_dataset"):
        return getattr(importlib.import_module("tfmtl.data.pipeline"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
