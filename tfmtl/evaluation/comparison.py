"""Several models over several seeds, on one log or several."""

from __future__ import annotations

import copy
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator
from rich.progress import track

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
        datasets: Label to sections that replace or extend the base, before those of the model; at
            least `dataset`. None where the base names the one log.
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
    datasets: dict[str, dict[str, Any]] = {}
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    reference: str | None = None

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

    def experiment(self, label: str, seed: int, dataset: str = "") -> Experiment:
        """The experiment of one model and seed.

        Args:
            label: The model.
            seed: The seed.
            dataset: Label of the log, where there are several.

        Raises:
            ValueError: If base, dataset and model together do not describe an experiment.
        """
        content = _merged(self.base, self.datasets[dataset] if dataset else {})
        content = _merged(content, self.models[label])
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
        dataset: Label of the log; empty where there is only one.

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

    Args:
        comparison: What to compare.
        folder: Where the run folders go.
        data_dir: Folder of a local copy of the data.
        jobs: Cells that are run at the same time, each in a process of its own with its share of
            the cores. Every process holds the data.
        progress: Whether to show progress bars; of the cells alone with several jobs.

    Yields:
        One `Cell` per log, model and seed, in this order.

    Raises:
        ValueError: If `jobs` is not positive.
        ExperimentError: If a folder holds the result of another experiment.

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
    places = [
        (dataset, label, seed, Path(folder) / dataset / label / f"seed-{seed}")
        for dataset in comparison.dataset_labels
        for label in comparison.models
        for seed in comparison.seeds
    ]
    pending = []
    for dataset, label, seed, cell in places:
        experiment = comparison.experiment(label, seed, dataset)
        run = RunFolder(cell)
        if not run.metrics.exists():
            pending.append((experiment, cell))
        elif Experiment.from_yaml(run.experiment).resolved() != experiment.resolved():
            raise ExperimentError(
                f"{cell} holds the result of another experiment: delete it or compare into another "
                "folder"
            )
    finished = _in_processes if jobs > 1 and len(pending) > 1 else _one_by_one
    running = finished(pending, data_dir, jobs, progress)
    for dataset, label, seed, cell in places:
        path = RunFolder(cell).metrics
        if not path.exists():
            next(running)
        yield Cell(label, seed, read_metrics(path), read_costs(path), dataset)


def _one_by_one(
    pending: Sequence[tuple[Experiment, Path]], data_dir: Path | None, jobs: int, progress: bool
) -> Iterator[None]:
    del jobs
    prepared: dict[str, PreparedData] = {}
    for experiment, cell in pending:
        _run_cell(experiment, cell, data_dir, progress, prepared)
        yield


def _in_processes(
    pending: Sequence[tuple[Experiment, Path]], data_dir: Path | None, jobs: int, progress: bool
) -> Iterator[None]:
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_share_cores, initargs=(threads,)
    ) as pool:
        cells = [pool.submit(_run_cell, *one, data_dir) for one in pending]
        try:
            for cell in track(cells, "Cells", disable=not progress):
                cell.result()
                yield
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _share_cores(threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


# Data of the last log that a worker process prepared.
_PREPARED: dict[str, PreparedData] = {}


def _run_cell(
    experiment: Experiment,
    cell: Path,
    data_dir: Path | None,
    progress: bool = False,
    prepared: dict[str, PreparedData] = _PREPARED,
) -> None:
    """Trains and scores one cell, or goes on with it."""
    run = RunFolder(cell)
    data = _prepared(prepared, experiment, data_dir, progress)
    try:
        model = train(
            experiment, cell, data=data, resume=run.experiment.exists(), progress=progress
        )
    except CheckpointError:
        run.experiment.unlink()
        model = train(experiment, cell, data=data, progress=progress)
    evaluate_run(model, data, cell, batch_size=experiment.training.evaluation_batch_size)


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
