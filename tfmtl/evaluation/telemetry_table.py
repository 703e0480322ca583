"""Telemetry of models, in means over seeds."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from tfmtl.evaluation.comparison import Cell
from tfmtl.evaluation.results_table import Summary

_GATE, _COSINE = "telemetry/gate/", "telemetry/gradient_cosine/"
_ENTROPY, _DEAD = "/entropy", "telemetry/dead_experts"


def summarize_telemetry(cells: Sequence[Cell]) -> list[Summary]:
    """Mean and spread over seeds of all telemetry, per model in the order of the cells.

    Args:
        cells: Finished cells.

    Returns:
        One summary per model and value, with the value's name as `metric` and no task; none where
        no cell has telemetry. Seeds in which a value is undefined are left out of it.

    Example:
        >>> cells = [Cell("MMoE", seed, {}, telemetry={"telemetry/dead_experts": float(seed)})
        ...          for seed in (0, 1, 2)]
        >>> [(one.mean, one.deviation) for one in summarize_telemetry(cells)]
        [(1.0, 1.0)]
    """
    summaries = []
    for label in dict.fromkeys(cell.label for cell in cells):
        own = [cell.telemetry for cell in cells if cell.label == label]
        for name in dict.fromkeys(name for values in own for name in values):
            values = np.array([values[name] for values in own if name in values])
            values = values[~np.isnan(values)]
            mean = float(values.mean()) if len(values) else float("nan")
            deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            summaries.append(Summary(label, "", name, mean, deviation, len(values)))
    return summaries


def telemetry_table(cells: Sequence[Cell]) -> str:
    """What gates and task gradients do in each model, as Markdown tables of means over seeds.

    The first table has a row per model: its dead experts and the mean over pairs of tasks of
    their gradients' cosine. The second has a row per gate: its entropy and the lowest and highest
    of its experts' mean loads, as multiples of 1 / E.

    Args:
        cells: Finished cells.

    Returns:
        The tables; the second is left out where no model has gates, both where there is no
        telemetry.

    Example:
        >>> gate = {"telemetry/gate/click_gate/load_0": 0.25,
        ...         "telemetry/gate/click_gate/load_1": 0.75,
        ...         "telemetry/gate/click_gate/entropy": 0.8, "telemetry/dead_experts": 0.0,
        ...         "telemetry/gradient_cosine/click/like": 0.125}
        >>> print(telemetry_table([Cell("MMoE", 0, {}, telemetry=gate)]))
        | telemetry | dead experts | gradient cosine |
        | --- | --- | --- |
        | MMoE | 0.0 | 0.125 |
        <BLANKLINE>
        | gate | entropy | lowest load, of 1 / E | highest load, of 1 / E |
        | --- | --- | --- | --- |
        | MMoE, click_gate | 0.800 ± 0.000 | 0.50 | 1.50 |
    """
    summaries = summarize_telemetry(cells)
    if not summaries:
        return ""
    models, gates = [], []
    for label in dict.fromkeys(one.label for one in summaries):
        own = {one.metric: one for one in summaries if one.label == label}
        dead = f"{own[_DEAD].mean:.1f}" if _DEAD in own else "-"
        cosines = [one.mean for name, one in own.items() if name.startswith(_COSINE)]
        defined = [value for value in cosines if not np.isnan(value)]
        models.append([label, dead, f"{np.mean(defined):.3f}" if defined else "-"])
        for name, entropy in own.items():
            if not (name.startswith(_GATE) and name.endswith(_ENTROPY)):
                continue
            gate = name.removesuffix(_ENTROPY)
            loads = [value.mean for key, value in own.items() if key.startswith(f"{gate}/load_")]
            gates.append(
                [
                    f"{label}, {gate.removeprefix(_GATE)}",
                    f"{entropy.mean:.3f} ± {entropy.deviation:.3f}",
                    *(f"{load * len(loads):.2f}" for load in (min(loads), max(loads))),
                ]
            )
    tables = [_markdown(["telemetry", "dead experts", "gradient cosine"], models)]
    if gates:
        heading = ["gate", "entropy", "lowest load, of 1 / E", "highest load, of 1 / E"]
        tables.append(_markdown(heading, gates))
    return "\n\n".join(tables)


def telemetry_csv(cells: Sequence[Cell]) -> str:
    """All telemetry as CSV text with a header, a row per model and value.

    Args:
        cells: Finished cells.

    Returns:
        CSV text.

    Example:
        >>> cell = Cell("MMoE", 0, {}, telemetry={"telemetry/dead_experts": 2.0})
        >>> telemetry_csv([cell]).splitlines()[1]
        'MMoE,telemetry/dead_experts,2.0,0.0,1'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "name", "mean", "deviation", "seeds"])
    for one in summarize_telemetry(cells):
        writer.writerow([one.label, one.metric, one.mean, one.deviation, one.seeds])
    return text.getvalue()


def _markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
