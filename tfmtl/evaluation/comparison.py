"""Several models over several seeds on one log."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tfmtl.evaluation.run_metrics import RunCosts, evaluate_run, read_costs, read_metrics
from tfmtl.metrics import TaskMetrics
from tfmtl.training import Experiment, ExperimentError, PreparedData, RunFolder, prepare_data, train
from tfmtl.training.training_state import CheckpointError
from tfmtl.training.yaml_document import parse_yaml, validated


class Comparison(BaseModel):
    """A comparison file: what the models share, what each has of its own, and the seeds.

    Args:
        base: Sections of an experiment that all models share.
        models: Label to sections that replace or extend the base; at least `model.name`.
        seeds: Seeds each model is trained with.
        reference: Label of the model that the others are tested against; the best one on the
            validation rows when not given.

    Example:
        >>> comparison = Comparison(
        ...     base={"dataset": {"name": "simulator"}, "training": {"epochs": 2}},
        ...     models={"MMoE": {"model": {"name": "mmoe"}, "training": {"batch_size": 64}}})
        >>> comparison.experiment("MMoE", seed=1).training.epochs
        2
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: dict[str, Any]
    models: dict[str, dict[str, Any]] = Field(min_length=1)
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    reference: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Comparison:
        for label in self.models:
            try:
                self.experiment(label, self.seeds[0])
            except ValueError as error:
                raise ValueError(f"{label!r}: {error}") from error
        if self.reference is not None and self.reference not in self.models:
            raise ValueError(
                f"expected a reference among the models {list(self.models)}; received "
                f"{self.reference!r}"
            )
        return self

    @classmethod
    def from_yaml(cls, path: Path) -> Comparison:
        """Reads a comparison file.

        Raises:
            ExperimentError: If the file is absent or does not describe a comparison.
        """
        try:
            return validated(cls, parse_yaml(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ExperimentError(f"cannot read {path}: {error.strerror or error}") from error
        except ValueError as error:
            raise ExperimentError(f"{path}: {error}") from error

    def experiment(self, label: str, seed: int) -> Experiment:
        """The experiment of one model and seed.

        Raises:
            ValueError: If base and model together do not describe an experiment.
        """
        content = _merged(self.base, self.models[label])
        content["training"] = {**(content.get("training") or {}), "seed": seed}
        return validated(Experiment, content)


@dataclass(frozen=True)
class Cell:
    """Result of one model and seed.

    Args:
        label: The model's label.
        seed: The seed.
        metrics: `TaskMetrics` per part (`validation`, `test`) and task.
        costs: What the run took; None where it is not known.

    Example:
        >>> from tfmtl.metrics import task_metrics
        >>> cell = Cell("MMoE", 0, {"test": {"click": task_metrics([0, 1], [0.2, 0.8])}})
        >>> cell.metrics["test"]["click"].auc
        1.0
    """

    label: str
    seed: int
    metrics: Mapping[str, Mapping[str, TaskMetrics]]
    costs: RunCosts | None = None


def compare(
    comparison: Comparison,
    folder: Path,
    *,
    data_dir: Path | None = None,
    progress: bool = False,
) -> Iterator[Cell]:
    """Trains and scores every model and seed; a finished cell is read, not run again.

    Each cell is a run folder `<folder>/<label>/seed-<n>`. Its epoch is chosen on the validation
    rows; the test rows are scored once, after that. An interrupted cell goes on where it stopped.

    Args:
        comparison: What to compare.
        folder: Where the run folders go.
        data_dir: Folder of a local copy of the data.
        progress: Whether to show progress bars.

    Yields:
        One `Cell` per model and seed, as they finish.

    Example:
        >>> import tempfile
        >>> comparison = Comparison(
        ...     base={"dataset": {"name": "simulator", "options": {"num_users": 20,
        ...           "num_items": 10, "num_rows": 400}}, "training": {"epochs": 1}},
        ...     models={"MMoE": {"model": {"name": "mmoe"}}}, seeds=[0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [cell.label for cell in compare(comparison, Path(folder))]
        ['MMoE']
    """
    prepared: dict[str, PreparedData] = {}
    for label in comparison.models:
        for seed in comparison.seeds:
            cell = Path(folder) / label / f"seed-{seed}"
            experiment = comparison.experiment(label, seed)
            run = RunFolder(cell)
            if run.metrics.exists():
                if Experiment.from_yaml(run.experiment).resolved() != experiment.resolved():
                    raise ExperimentError(
                        f"{cell} holds the result of another experiment: delete it or compare "
                        "into another folder"
                    )
                yield Cell(label, seed, read_metrics(run.metrics), read_costs(run.metrics))
                continue
            data = _prepared(prepared, experiment, data_dir, progress)
            try:
                model = train(
                    experiment, cell, data=data, resume=run.experiment.exists(), progress=progress
                )
            except CheckpointError:
                run.experiment.unlink()
                model = train(experiment, cell, data=data, progress=progress)
            metrics = evaluate_run(
                model, data, cell, batch_size=experiment.training.evaluation_batch_size
            )
            yield Cell(label, seed, metrics, read_costs(run.metrics))


def _prepared(
    prepared: dict[str, PreparedData],
    experiment: Experiment,
    data_dir: Path | None,
    progress: bool,
) -> PreparedData:
    sections = experiment.model_dump(mode="json", include={"dataset", "statistics", "graph"})
    sections["graph"] = {
        name: value
        for name, value in sections["graph"].items()
        if experiment.uses_graph and name not in ("fan_out", "mask_own_edges")
    }
    key = yaml.safe_dump(sections)
    if key not in prepared:
        prepared.clear()
        prepared[key] = prepare_data(experiment, data_dir=data_dir, progress=progress)
    return prepared[key]


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(dict(base))
    for key, value in own.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = _merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result
