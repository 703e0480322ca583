"""Models by the name an experiment file gives them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.layers.graph_bottom import GraphBottom
from tfmtl.models.aitm import AITM
from tfmtl.models.cgc import CGC
from tfmtl.models.cross_stitch import CrossStitch
from tfmtl.models.escm2 import ESCM2
from tfmtl.models.esmm import ESMM
from tfmtl.models.home import HoME
from tfmtl.models.light_gcn import LightGCN
from tfmtl.models.mmoe import MMoE
from tfmtl.models.mogenet import MoGENet
from tfmtl.models.multi_task_model import MultiTaskModel
from tfmtl.models.ngcf import NGCF
from tfmtl.models.omoe import OMoE
from tfmtl.models.ple import PLE
from tfmtl.models.pogcn import POGCN
from tfmtl.models.shared_bottom import SharedBottom
from tfmtl.models.single_task import SingleTask
from tfmtl.models.snr_trans import SNRTrans
from tfmtl.models.stem import STEM
from tfmtl.schema import Schema

MODELS: dict[str, type[MultiTaskModel]] = {
    "single_task": SingleTask,
    "shared_bottom": SharedBottom,
    "cross_stitch": CrossStitch,
    "omoe": OMoE,
    "mmoe": MMoE,
    "snr_trans": SNRTrans,
    "cgc": CGC,
    "ple": PLE,
    "stem": STEM,
    "home": HoME,
    "esmm": ESMM,
    "escm2": ESCM2,
    "aitm": AITM,
    "ngcf": NGCF,
    "light_gcn": LightGCN,
    "pogcn": POGCN,
    "mogenet": MoGENet,
}

BOTTOMS: dict[str, type] = {"mgnn": GraphBottom}


def _model_class(name: str) -> type[MultiTaskModel]:
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; expected one of {sorted(MODELS)}")
    return MODELS[name]


def default_hyperparameters(name: str) -> dict[str, Any]:
    """Every hyper-parameter of a model with its default.

    Args:
        name: A key of `MODELS`.

    Returns:
        Keyword arguments of the constructor that have defaults.

    Raises:
        ValueError: If there is no such model.

    Example:
        >>> default_hyperparameters("mmoe")["num_experts"]
        4
    """
    return _defaults(_model_class(name))


def _defaults(constructed: type) -> dict[str, Any]:
    parameters = inspect.signature(constructed).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
    }


def checked_bottom(name: str, bottom: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The bottom of a model with every option named.

    Args:
        name: A key of `MODELS`.
        bottom: Name of a bottom, `mgnn`, to its options that differ from the defaults.

    Returns:
        Name of the bottom to all its options.

    Raises:
        ValueError: If a bottom or an option is unknown, or the model has a graph of its own.

    Example:
        >>> checked_bottom("mmoe", {"mgnn": {"dim": 8}})["mgnn"]["num_layers"]
        2
    """
    if _model_class(name).needs_graph:
        raise ValueError(
            f"model {name!r} has a graph of its own; received bottom {sorted(bottom)}: leave it out"
        )
    unknown = sorted(set(bottom) - set(BOTTOMS))
    if unknown:
        raise ValueError(f"unknown bottoms {unknown}; expected some of {sorted(BOTTOMS)}")
    checked = {}
    for kind, options in bottom.items():
        known = _defaults(BOTTOMS[kind])
        surplus = sorted(set(options) - set(known))
        if surplus:
            raise ValueError(
                f"bottom {kind!r} has no options {surplus}; expected some of {sorted(known)}"
            )
        checked[kind] = {**known, **options}
    return checked


def build_model(
    name: str,
    schema: Schema,
    encoder: FeatureEncoder,
    hyperparameters: Mapping[str, Any],
    *,
    exclude_inputs: Sequence[str] = (),
    bottom: Mapping[str, Mapping[str, Any]] | None = None,
    numeric_bins: int = 0,
) -> MultiTaskModel:
    """Builds the model called `name` for an encoded log.

    Args:
        name: A key of `MODELS`.
        schema: Its tasks become the model's outputs.
        encoder: Its inputs become the model's inputs, its node features those of graph nodes.
        hyperparameters: Constructor arguments that differ from the defaults.
        exclude_inputs: Encoded inputs that the model does not embed, e.g. `user_id` where users
            have too few rows to learn a vector for each.
        bottom: See `MultiTaskModel`; for models that have no graph of their own.
        numeric_bins: Bins by which numeric inputs are encoded, see `FeatureEmbedding`.

    Returns:
        An uncompiled model.

    Raises:
        ValueError: If the model, a hyper-parameter or an input is unknown, or a graph
            model meets a log without users and items.

    Example:
        >>> from tfmtl.datasets import load
        >>> from tfmtl.data import FeatureEncoder
        >>> loaded = load("simulator", num_users=20, num_items=10, num_rows=400)
        >>> encoder = FeatureEncoder.fit(loaded.split.train)
        >>> model = build_model("mmoe", loaded.log.schema, encoder, {"num_experts": 2})
        >>> model.experts.num_experts
        2
    """
    model_class = _model_class(name)
    known = default_hyperparameters(name)
    unknown = sorted(set(hyperparameters) - set(known))
    if unknown:
        raise ValueError(
            f"model {name!r} has no hyper-parameters {unknown}; expected some of {sorted(known)}"
        )
    names = [spec.name for spec in encoder.inputs]
    absent = sorted(set(exclude_inputs) - set(names))
    if absent:
        raise ValueError(f"unknown inputs {absent}: the encoder has {names}")
    inputs = [
        replace(spec, bins=numeric_bins) if spec.kind == "numeric" else spec
        for spec in encoder.inputs
        if spec.name not in exclude_inputs
    ]
    arguments = dict(hyperparameters)
    if bottom:
        arguments["bottom"] = checked_bottom(name, bottom)
    if model_class.needs_graph or bottom:
        if not schema.has_ids:
            relation = "needs" if model_class.needs_graph else "stands on"
            raise ValueError(
                f"model {name!r} {relation} a graph, but the schema names no user and item "
                "columns; choose a model without a graph or set user and item"
            )
        arguments["node_features"] = {
            side: encoder.node_features(side) for side in ("user", "item")
        }
    return model_class(schema.tasks, inputs, **arguments)
