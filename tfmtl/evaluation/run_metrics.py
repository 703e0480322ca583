"""Metrics of a trained run, kept in its folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.metrics import TaskMetrics
from tfmtl.models.multi_task_model import MultiTaskModel
from tfmtl.training import PreparedData, RunFolder, evaluate_log


@dataclass(frozen=True)
class RunCosts:
    """What a run took.

    Args:
        parameters: Trainable weights, single numbers.
        epochs: Epochs trained, those after the best one included.
        seconds: Time of their training steps, without set-up and validation.

    Example:
        >>> RunCosts(parameters=1200, epochs=3, seconds=4.5).epochs
        3
    """

    parameters: int
    epochs: int
    seconds: float


def evaluate_run(
    model: MultiTaskModel,
    data: PreparedData,
    folder: Path,
    *,
    parts: Sequence[str] = ("validation", "test"),
    batch_size: int = 8192,
) -> dict[str, dict[str, TaskMetrics]]:
    """Scores held-out parts with a selected model; writes them and its costs as `metrics.json`.

    Call it once, after training has chosen the epoch on the validation rows. Parts that the file
    holds already and that are not scored now are kept.

    Args:
        model: The selected model.
        data: The data it was trained on.
        folder: Its run folder.
        parts: Which parts to score.
        batch_size: Rows scored at one time.

    Returns:
        `TaskMetrics` per part and task.

    Raises:
        ValueError: If a part is unknown, the data is not that of the run, or an earlier
            `metrics.json` is damaged.

    Example:
        >>> evaluate_run(None, None, Path("run"), parts=["train"])
        Traceback (most recent call last):
        ...
        ValueError: expected parts among ('validation', 'test'); received ['train']
    """
    known = ("validation", "test")
    if set(parts) - set(known):
        raise ValueError(f"expected parts among {known}; received {list(parts)}")
    run = RunFolder(Path(folder))
    if run.encoder.exists() and (
        FeatureEncoder.load(run.encoder).fingerprint() != data.encoder.fingerprint()
    ):
        raise ValueError(
            f"the data changed since the run under {folder} was trained: evaluate it on the data "
            "of then, or train again"
        )
    kept = read_metrics(run.metrics) if run.metrics.exists() else {}
    encoded = {"validation": data.validation, "test": data.test}
    metrics = {
        part: evaluate_log(model, encoded[part], bundle=data.bundle, batch_size=batch_size)
        for part in parts
    }
    epochs, seconds = _trained(run)
    content: dict[str, Any] = {
        "costs": asdict(
            RunCosts(
                sum(int(weight.shape.num_elements()) for weight in model.trainable_weights),
                epochs,
                seconds,
            )
        ),
        **{part: _plain(values) for part, values in {**kept, **metrics}.items()},
    }
    run.path.mkdir(parents=True, exist_ok=True)
    aside = run.metrics.with_suffix(".partial")
    aside.write_text(json.dumps(content, indent=2), encoding="utf-8")
    aside.replace(run.metrics)
    return metrics


def read_costs(path: Path) -> RunCosts | None:
    """Reads the costs of a `metrics.json` back.

    Args:
        path: The file.

    Returns:
        The costs; None where the file has none.

    Raises:
        ValueError: If the file is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "metrics.json"
        ...     _ = file.write_text('{"costs": {"parameters": 7, "epochs": 2, "seconds": 1.5}}')
        ...     read_costs(file).epochs
        2
    """
    try:
        costs = json.loads(path.read_text(encoding="utf-8")).get("costs")
        return None if costs is None else RunCosts(**costs)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a metrics file: delete it and evaluate again") from error


def _trained(run: RunFolder) -> tuple[int, float]:
    """Epochs of a run and the seconds that their steps took; 0 where nothing was trained."""
    if not run.history.exists():
        return 0, 0.0
    with run.history.open(newline="", encoding="utf-8") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    return len(seconds), sum(seconds)


def read_metrics(path: Path) -> dict[str, dict[str, TaskMetrics]]:
    """Reads the parts of a `metrics.json` back.

    Args:
        path: The file.

    Returns:
        `TaskMetrics` per part and task.

    Raises:
        ValueError: If the file is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "metrics.json"
        ...     _ = file.write_text("{")
        ...     read_metrics(file)
        Traceback (most recent call last):
        ...
        ValueError: ... is not a metrics file: delete it and evaluate again
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        metrics = {
            part: {task: TaskMetrics(**values) for task, values in content[part].items()}
            for part in ("validation", "test")
            if part in content
        }
        if not metrics:
            raise ValueError("no part")
        return metrics
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a metrics file: delete it and evaluate again") from error


def _plain(metrics: Mapping[str, TaskMetrics]) -> dict[str, dict[str, float]]:
    return {task: asdict(values) for task, values in metrics.items()}
