"""Several models over several seeds, on one log or several."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tfmtl.evaluation.model_runs import ModelRuns
from tfmtl.evaluation.run_metrics import RunCosts, read_costs, read_metrics
from tfmtl.evaluation.run_models import run_in_processes, run_one_by_one
from tfmtl.evaluation.run_telemetry import read_telemetry
from tfmtl.evaluation.tuning import Tuning
from tfmtl.evaluation.tuning_config import ModelTuning, TuningConfig
from tfmtl.metrics import TaskMetrics
from tfmtl.training import Experiment, ExperimentError, RunFolder
from tfmtl.training.yaml_document import parse_yaml, validated, with_value


class Comparison(BaseModel):
    """A comparison file: what the models share, what each has of its own, and the seeds.

    Args:
        base: Sections of an experiment that all models share.
        models: Label to sections that replace or extend the base; at least `model.name`. Beside
            them `tuning`, what the model's search space has of its own, see `ModelTuning`.
        datasets: Label to sections that replace or extend the base, before those of the model; at
            least `dataset`. None where the base names the one log.
        seeds: Seeds each model is trained with.
        reference: Label of the model that the others are tested against; the best one on the
            validation rows when not given.
        tuning: How every model is tuned before its cells are run; none is when not given.

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
    datasets: dict[str, dict[str, Any]] = {}
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    reference: str | None = None
    tuning: TuningConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> Comparison:
        for dataset in self.dataset_labels:
            for label in self.models:
                try:
                    self.experiment(label, self.seeds[0], dataset)
                except ValueError as error:
                    place = f"{label!r}" + (f" on {dataset!r}" if dataset else "")
                    raise ValueError(f"{place}: {error}") from error
        if self.reference is not None and self.reference not in self.models:
            raise ValueError(
                f"expected a reference among the models {list(self.models)}; received "
                f"{self.reference!r}"
            )
        for label in self.models:
            self._check_tuning(label)
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

    @property
    def dataset_labels(self) -> tuple[str, ...]:
        """Labels of the logs; one empty label where the base names the log."""
        return tuple(self.datasets) or ("",)

    def experiment(
        self,
        label: str,
        seed: int,
        dataset: str = "",
        values: Mapping[str, Any] | None = None,
    ) -> Experiment:
        """The experiment of one model and seed.

        Args:
            label: The model.
            seed: The seed.
            dataset: Label of the log, where there are several.
            values: Dotted names of fields to values that replace what the comparison says.

        Raises:
            ValueError: If base, dataset and model together do not describe an experiment.
        """
        content = _merged(self.base, self.datasets[dataset] if dataset else {})
        own = {name: value for name, value in self.models[label].items() if name != "tuning"}
        content = _merged(content, own)
        for path, value in (values or {}).items():
            content = with_value(content, path.split("."), value, repr(path))
        content["training"] = {**(content.get("training") or {}), "seed": seed}
        return validated(Experiment, content)

    def tuning_of(self, label: str) -> TuningConfig | None:
        """How one model is tuned: the shared settings with its own space.

        Args:
            label: The model.

        Raises:
            ValueError: If what the model says of its space does not fit the shared settings.
        """
        own = self.models[label].get("tuning")
        if self.tuning is None:
            if own is not None:
                raise ValueError(
                    "the model has 'tuning' and the comparison has none: give the comparison its "
                    "trials and oracle, or leave it out"
                )
            return None
        return (ModelTuning() if own is None else validated(ModelTuning, own)).applied(self.tuning)

    def _check_tuning(self, label: str) -> None:
        try:
            config = self.tuning_of(label)
        except ValueError as error:
            raise ValueError(f"{label!r}: tuning: {error}") from error
        if config is None:
            return
        if not config.space:
            raise ValueError(
                f"{label!r}: tuning.space is empty: name the fields to tune, or leave 'tuning' out"
            )
        for dataset in self.dataset_labels:
            place = f"{label!r}" + (f" on {dataset!r}" if dataset else "")
            for path, dimension in config.space.items():
                for value in dimension.examples:
                    try:
                        self.experiment(label, config.seed, dataset, {path: value})
                    except ValueError as error:
                        raise ValueError(
                            f"{place} cannot have {path!r} set to {value!r}: {error}; change the "
                            f"space, or name the field in models.{label}.tuning.exclude"
                        ) from error


@dataclass(frozen=True)
class Cell:
    """Result of one model and seed.

    Args:
        label: The model's label.
        seed: The seed.
        metrics: `TaskMetrics` per part (`validation`, `test`) and task.
        costs: What the run took; None where it is not known.
        dataset: Label of the log; empty where there is only one.
        tuning: How its setting was found; None where the model was not tuned.
        telemetry: Telemetry of its best epoch, see `Telemetry`; empty where there is none.

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
    dataset: str = ""
    tuning: Tuning | None = None
    telemetry: Mapping[str, float] = field(default_factory=dict)


def compare(
    comparison: Comparison,
    folder: Path,
    *,
    data_dir: Path | None = None,
    jobs: int = 1,
    progress: bool = False,
) -> Iterator[Cell]:
    """Trains and scores every model and seed; a finished cell is read, not run again.

    Each cell is a run folder `<folder>/<label>/seed-<n>`, where there are several logs
    `<folder>/<dataset>/<label>/seed-<n>`. Its epoch is chosen on the validation rows; the test rows
    are scored once, after that. An interrupted cell goes on where it stopped.

    With `tuning`, the cells of a model take the values of its best trial. Each trial is a run
    folder `tuning/trial-<n>` beside the cells; the test rows are not scored for it. A trial that
    fails, for instance because the loss is not finite, counts as the worst. A finished trial is
    read, an interrupted tuning proposes what it would have proposed, and more trials go on from
    those before. `tuning.yaml` and `tuning.csv` beside the cells hold what was found.

    Args:
        comparison: What to compare.
        folder: Where the run folders go.
        data_dir: Folder of a local copy of the data.
        jobs: Cells and trials that are run at the same time, each in a process of its own with its
            share of the cores. Every process holds the data. A bayesian oracle proposes a model's
            trials one after another.
        progress: Whether to show progress bars; with several jobs, of trials and cells alone.

    Yields:
        One `Cell` per log, model and seed, in this order.

    Raises:
        ValueError: If `jobs` is not positive.
        ExperimentError: If a folder holds the result of another experiment, or every trial of a
            model failed.
        ImportError: If models are to be tuned and KerasTuner is not installed.

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
    if jobs < 1:
        raise ValueError(f"expected at least one job; received {jobs}")
    models = {
        (dataset, label): ModelRuns(
            f"{label} on {dataset}" if dataset else label,
            Path(folder) / dataset / label,
            comparison.seeds,
            partial(_experiment, comparison, label, dataset),
            comparison.tuning_of(label),
        )
        for dataset in comparison.dataset_labels
        for label in comparison.models
    }
    runs = list(models.values())
    if jobs > 1 and sum(model.pending_trials + model.pending_cells for model in runs) > 1:
        running = run_in_processes(runs, data_dir, jobs=jobs, progress=progress)
    else:
        running = run_one_by_one(runs, data_dir, progress=progress)
    for (dataset, label), model in models.items():
        for seed in comparison.seeds:
            path = RunFolder(model.cell_folder(seed)).metrics
            while not (model.checked and path.exists()):
                next(running, None)
            yield Cell(
                label,
                seed,
                read_metrics(path),
                read_costs(path),
                dataset,
                model.tuning,
                read_telemetry(path.parent),
            )


def _experiment(
    comparison: Comparison, label: str, dataset: str, seed: int, values: Mapping[str, Any]
) -> Experiment:
    return comparison.experiment(label, seed, dataset, values)


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(dict(base))
    for key, value in own.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = _merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result
