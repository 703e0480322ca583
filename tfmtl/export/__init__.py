"""SavedModels that take raw ids and features."""

from tfmtl.export.export_gap import export_gap
from tfmtl.export.export_model import export_model
from tfmtl.export.graph_encoder import GraphEncoder
from tfmtl.export.raw_inputs import (
    id_dtype,
    input_specs,
    raw_request,
    requested_features,
    takes_text,
)

__all__ = [
    "GraphEncoder",
    "export_gap",
    "export_model",
    "id_dtype",
    "input_specs",
    "raw_request",
    "requested_features",
    "takes_text",
]
