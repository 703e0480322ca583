"""Weightings by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from tfmtl.objectives.cagrad import CAGrad
from tfmtl.objectives.dynamic_weight_averaging import DynamicWeightAveraging
from tfmtl.objectives.famo import FAMO
from tfmtl.objectives.grad_norm import GradNorm
from tfmtl.objectives.imtl import IMTL
from tfmtl.objectives.mgda import MGDA
from tfmtl.objectives.nash_mtl import NashMTL
from tfmtl.objectives.pcgrad import PCGrad
from tfmtl.objectives.static_weighting import StaticWeighting
from tfmtl.objectives.task_weighting import TaskWeighting
from tfmtl.objectives.uncertainty_weighting import UncertaintyWeighting
from tfmtl.schema import Task

WEIGHTINGS: dict[str, type[TaskWeighting]] = {
    "cagrad": CAGrad,
    "dwa": DynamicWeightAveraging,
    "famo": FAMO,
    "grad_norm": GradNorm,
    "imtl": IMTL,
    "mgda": MGDA,
    "nash_mtl": NashMTL,
    "pcgrad": PCGrad,
    "static": StaticWeighting,
    "uncertainty": UncertaintyWeighting,
}


def build_weighting(weighting: str | Mapping[str, Any], tasks: Sequence[Task]) -> TaskWeighting:
    """Builds the weighting of a model's task losses.

    Args:
        weighting: One of `WEIGHTINGS`, or a dict of such a `name` and of options of its class, such
            as `{"name": "grad_norm", "alpha": 0.5}`.
        tasks: The schema's tasks, whose weights it starts from.

    Returns:
        A layer named `weighting`.

    Raises:
        ValueError: If the name or an option is unknown, or a value is one that the class refuses.

    Example:
        >>> build_weighting({"name": "cagrad", "c": 0.2}, [Task(name="click")]).c
        0.2
    """
    content = {"name": weighting} if isinstance(weighting, str) else dict(weighting)
    name = content.pop("name", None)
    if name not in WEIGHTINGS:
        *names, last = WEIGHTINGS
        known = f"{', '.join(map(repr, names))} or {last!r}"
        raise ValueError(
            f"expected weighting {known}; received {weighting!r}: give one of these names, or a "
            "dict of `name` and options"
        )
    weighting_class: Any = WEIGHTINGS[name]
    options = [
        key
        for key, parameter in inspect.signature(weighting_class).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    unknown = sorted(set(content) - set(options))
    if unknown:
        raise ValueError(
            f"weighting {name!r} has no options {unknown}; expected some of {options}: leave them "
            "out, or choose another weighting"
        )
    by_task = {task.name: task.weight for task in tasks}
    # Uncertainty would undo weights of the schema; it takes the names alone.
    first = list(by_task) if weighting_class is UncertaintyWeighting else by_task
    return weighting_class(first, **content, name="weighting")
