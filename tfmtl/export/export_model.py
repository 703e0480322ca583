"""Writes a trained model as a SavedModel for TF Serving."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.export.graph_encoder import GraphEncoder
from tfmtl.export.raw_inputs import Signature, input_specs
from tfmtl.layers.node_states import NodeStates
from tfmtl.models.grec_for_task import GRecForTask
from tfmtl.models.multi_task_model import MultiTaskModel


def export_model(
    model: MultiTaskModel | GRecForTask,
    encoder: FeatureEncoder,
    folder: Path,
    *,
    node_states: NodeStates | None = None,
) -> Path:
    """Writes the next version of a model under `folder`, ready for TF Serving.

    The SavedModel takes raw ids and features and answers one probability per task:

    * `serving_default` takes every feature of the schema;
    * `by_id` takes ids and context features, and knows the users' and items' features itself
      (absent for a log without users and items).

    Lookup tables, statistics and, for a graph model, the states of all nodes are inside, so that
    serving touches no graph and no other file. Every input and output has the batch as its first
    dimension. Only variables that the signatures use are written. `assets.extra/inputs.json`
    describes the inputs for client code.

    Args:
        model: A model whose weights exist, or what `GRec.for_task` made of one.
        encoder: The encoder it was trained with.
        folder: Base folder of the served model; versions are numbered from 1 inside.
        node_states: What `compute_node_states` returned, for a model that uses a graph.

    Returns:
        The folder of the new version.

    Raises:
        ValueError: If a graph model comes without node states.

    Example:
        >>> import tempfile
        >>> import pyarrow as pa
        >>> from tfmtl.data import TrainingLog
        >>> from tfmtl.models import build_model
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")])
        >>> rows = pa.table({"user_id": [7, 9], "item_id": [1, 2], "click": [1, 0]})
        >>> encoder = FeatureEncoder.fit(TrainingLog(rows, schema))
        >>> model = build_model("mmoe", schema, encoder, {})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_model(model, encoder, Path(folder)).name
        '1'
    """
    if model.uses_graph and node_states is None:
        raise ValueError(
            f"{type(model).__name__} uses a graph and received no node states: pass "
            "node_states=model.compute_node_states(edge_sets)"
        )
    module = tf.Module(name="served_model")
    module.encoder = GraphEncoder(encoder)
    encodings: dict[Signature, Callable] = {"serving_default": module.encoder.encode}
    if encoder.schema.has_ids:
        encodings["by_id"] = module.encoder.encode_by_id
    signatures = {}
    for name, encode in encodings.items():
        signatures[name] = _serving_function(model, encode, node_states).get_concrete_function(
            **input_specs(encoder, name)
        )
    # Keras would write every layer's own call functions; the signatures need their variables only.
    module.weights = list(
        {id(v): v for function in signatures.values() for v in function.graph.variables}.values()
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    try:
        tf.saved_model.save(module, str(aside), signatures=signatures)
        extra = aside / "assets.extra"
        extra.mkdir()
        (extra / "inputs.json").write_text(
            json.dumps(_describe(model.task_names, encoder, encodings), indent=2), encoding="utf-8"
        )
        aside.chmod(0o755)
        version = folder / str(_next_version(folder))
        aside.rename(version)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return version


def _serving_function(
    model: MultiTaskModel | GRecForTask, encode: Callable, node_states: NodeStates | None
) -> Any:
    @tf.function
    def serve(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        features = encode(raw)
        if node_states is not None:
            features = node_states(features)
        return model.probabilities(features)

    return serve


def _describe(tasks: Sequence[str], encoder: FeatureEncoder, signatures: Any) -> dict[str, Any]:
    return {
        "tasks": list(tasks),
        "signatures": {
            name: {
                key: {"dtype": spec.dtype.name, "shape": [-1, *spec.shape.as_list()[1:]]}
                for key, spec in input_specs(encoder, name).items()
            }
            for name in signatures
        },
    }


def _next_version(folder: Path) -> int:
    versions = [int(entry.name) for entry in folder.iterdir() if re.fullmatch(r"\d+", entry.name)]
    return max(versions, default=0) + 1
