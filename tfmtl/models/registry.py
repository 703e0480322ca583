"""Models by the name an experiment file gives them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.graph.macro_graph import MacroGraph
from tfmtl.layers.graph_bottom import GraphBottom
from tfmtl.layers.macro_bottom import MacroBottom
from tfmtl.models.aitm import AITM
from tfmtl.models.cgc import CGC
from tfmtl.models.cross_stitch import CrossStitch
from tfmtl.models.escm2 import ESCM2
from tfmtl.models.esmm import ESMM
from tfmtl.models.grec import GRec
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
    "macgnn": MacGNN,
    "mgoe": MGOE,
    "grec": GRec,
}

BOTTOMS: dict[str, type] = {"mgnn": GraphBottom, "macro": MacroBottom}


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
        bottom: Name of a bottom, `mgnn` or `macro`, to its options that differ from the defaults.

    Returns:
        Name of the bottom to all its options.

    Raises:
        ValueError: If a bottom or an option is unknown, or the model has a graph of its own.

    Example:
        >>> checked_bottom("mmoe", {"mgnn": {"dim": 8}})["mgnn"]["num_layers"]
        2
    """
    model = _model_class(name)
    if model.needs_graph or model.needs_macro_graph:
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
    macro_graph: MacroGraph | None = None,
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
        macro_graph: The macro graph, for a model that needs one or stands on one.

    Returns:
        An uncompiled model.

    Raises:
        ValueError: If the model, a hyper-parameter or an input is unknown, or a graph
            model meets a log without users and items or comes without its macro graph.

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
        replace(spec, bins=numeric_bins) if spec.kind == "numeric" and not spec.vector else spec
        for spec in encoder.inputs
        if spec.name not in exclude_inputs
    ]
    arguments = dict(hyperparameters)
    if bottom:
        arguments["bottom"] = checked_bottom(name, bottom)
    bottoms = set(bottom or {})
    needs_graph = model_class.needs_graph or "mgnn" in bottoms
    needs_macro_graph = model_class.needs_macro_graph or "macro" in bottoms
    if (needs_graph or needs_macro_graph) and not schema.has_ids:
        relation = "stands on" if bottom else "needs"
        raise ValueError(
            f"model {name!r} {relation} a graph, but the schema names no user and item "
            "columns; choose a model without a graph or set user and item"
        )
    if needs_graph:
        arguments["node_features"] = {
            side: encoder.node_features(side) for side in ("user", "item")
        }
    if needs_macro_graph:
        if macro_graph is None:
            raise ValueError(
                f"model {name!r} reads a macro graph and received none: pass "
                "macro_graph=build_macro_graph(train, encoder)"
            )
        arguments["macro_graph"] = macro_graph
    return model_class(schema.tasks, inputs, **arguments)
