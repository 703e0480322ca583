"""SavedModels that take raw ids and features."""

from tfmtl.export.export_gap import export_gap
from tfmtl.export.export_model import export_model
from tfmtl.export.graph_encoder import GraphEncoder
from tfmtl.export.node_state_shards import (
    NodeStatesError,
    read_node_states,
    write_node_states,
)
from tfmtl.export.raw_inputs import (
    id_dtype,
    input_specs,
    raw_request,
    requested_features,
    takes_text,
)

__all__ = [
    "GraphEncoder",
    "NodeStatesError",
    "export_gap",
    "export_model",
    "id_dtype",
    "input_specs",
    "raw_request",
    "read_node_states",
    "requested_features",
    "takes_text",
    "write_node_states",
]
