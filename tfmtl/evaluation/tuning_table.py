"""What tuning chose, as a part of a report."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tfmtl.evaluation.comparison import Cell
from tfmtl.evaluation.tuning import Tuning


def tuning_table(cells: Sequence[Cell]) -> str:
    """Budgets, scores and chosen values of the tuned models, in Markdown.

    Args:
        cells: Finished cells of one log.

    Returns:
        A sentence, a table with a row per model, and the failed trials; empty where no model was
        tuned.

    Example:
        >>> from tfmtl.evaluation import Trial, Tuning, TuningConfig
        >>> trials = (Trial({"model.dim": 16}, 0.7, 2.5), Trial({"model.dim": 8}, 0.72, 2.0))
        >>> tuning = Tuning(TuningConfig(trials=2), "auc", trials)
        >>> print(tuning_table([Cell("MMoE", 0, {}, tuning=tuning)]).splitlines()[-1])
        | MMoE | 2 | 0 | 4.5 | auc | 0.7000 | 0.7200 | `model.dim: 8` |
    """
    tunings = {cell.label: cell.tuning for cell in cells if cell.tuning is not None}
    if not tunings:
        return ""
    config = next(iter(tunings.values())).config
    lines = [
        f"Every model had {config.trials} trials of oracle {config.oracle} with seed {config.seed} "
        "on the validation rows, the first of them untuned; scores are means over tasks on those "
        "rows, which choosing the best makes optimistic.",
        "",
        "| tuning | trials | failed | s | metric | untuned | chosen | values |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    failures = []
    for label, tuning in tunings.items():
        failed = [(number, one) for number, one in enumerate(tuning.trials, 1) if one.failure]
        failures += [f"- {label}, trial {number}: {one.failure}" for number, one in failed]
        cells_of_row = [
            label,
            str(len(tuning.trials)),
            str(len(failed)),
            f"{tuning.seconds:.1f}",
            tuning.metric,
            _score(tuning, 0),
            _score(tuning, tuning.best),
            _values(tuning),
        ]
        lines.append("| " + " | ".join(cells_of_row) + " |")
    if failures:
        lines += ["", "Trials that failed, counted as the worst:", "", *failures]
    return "\n".join(lines)


def _score(tuning: Tuning, place: int) -> str:
    score = tuning.trials[place].score
    return "failed" if score is None else f"{score:.4f}"


def _values(tuning: Tuning) -> str:
    values = tuning.trials[tuning.best].values
    text = ", ".join(f"`{path}: {json.dumps(value)}`" for path, value in values.items())
    return text if tuning.best else f"untuned, {text}"
