"""The runs of one model on one log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfmtl.evaluation.run_task import RunTask
from tfmtl.evaluation.trial import Trial
from tfmtl.evaluation.trial_proposals import import_keras_tuner, trial_proposals
from tfmtl.evaluation.tuning import Tuning, field_value
from tfmtl.evaluation.tuning_config import TuningConfig
from tfmtl.training import Experiment, ExperimentError


class ModelRuns:
    """Trials of a model's tuning, then its cells with the values that the tuning chose.

    Args:
        name: What the model is called in titles.
        folder: The model's folder: trials go to `tuning/trial-<n>`, cells to `seed-<n>`.
        seeds: Seeds of the cells.
        experiment: Makes an experiment from a seed and the values of tuned fields.
        config: How the model is tuned; None if it is not.

    Raises:
        ExperimentError: If the folder holds results of other experiments.
        ImportError: If a tuning is to be run and KerasTuner is not installed.

    Example:
        >>> from tfmtl.evaluation import Comparison
        >>> comparison = Comparison(
        ...     base={"dataset": {"name": "simulator"}}, models={"A": {"model": {"name": "mmoe"}}})
        >>> runs = ModelRuns(
        ...     "A", Path("runs/A"), (0, 1),
        ...     lambda seed, values: comparison.experiment("A", seed, values=values), None)
        >>> [[task.title for task in batch] for batch in runs.batches()]
        [['A, seed 0', 'A, seed 1']]
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        seeds: tuple[int, ...],
        experiment: Callable[[int, Mapping[str, Any]], Experiment],
        config: TuningConfig | None,
    ):
        self.tuning: Tuning | None = None
        self.checked = False
        self.pending_trials = 0
        self._name = name
        self._folder = folder
        self._seeds = seeds
        self._experiment = experiment
        self._config = config
        if config is None:
            self.pending_cells = len(self._unfinished_cells())
            return
        self._untuned = experiment(config.seed, {})
        self.tuning = Tuning.read(folder, config, self._untuned)
        if self.tuning is not None:
            self.pending_cells = len(self._unfinished_cells())
            return
        import_keras_tuner()
        finished = [task for task in self._cells({}) if task.result.exists()]
        if finished and not self._trials_folder.exists():
            raise ExperimentError(
                f"{finished[0].folder} holds a result from before the tuning: delete it or compare "
                "into another folder"
            )
        self.pending_trials = sum(
            not (self._trials_folder / f"trial-{number}" / "trial.json").exists()
            for number in range(1, config.trials + 1)
        )
        self.pending_cells = len(seeds) - len(finished)

    def cell_folder(self, seed: int) -> Path:
        """Run folder of a cell.

        Args:
            seed: Its seed.
        """
        return self._folder / f"seed-{seed}"

    def batches(self) -> Iterator[list[RunTask]]:
        """What is to be run, in batches; the next one needs the results of the one before.

        Yields:
            Tasks of a batch, which may run at the same time; none where all are finished.

        Raises:
            ExperimentError: If the folder holds results of other experiments, or every trial
                failed.
        """
        if self._config is not None and self.tuning is None:
            yield from self._trials(self._config)
        yield self._unfinished_cells()

    @property
    def _trials_folder(self) -> Path:
        return self._folder / "tuning"

    def _cells(self, values: Mapping[str, Any]) -> list[RunTask]:
        return [
            RunTask(
                self._experiment(seed, values), self.cell_folder(seed), f"{self._name}, seed {seed}"
            )
            for seed in self._seeds
        ]

    def _unfinished_cells(self) -> list[RunTask]:
        chosen = {} if self.tuning is None else self.tuning.chosen
        unfinished = [task for task in self._cells(chosen) if not task.finished]
        self.checked = True
        return unfinished

    def _trials(self, config: TuningConfig) -> Iterator[list[RunTask]]:
        metric = config.metric or self._untuned.training.monitor
        untuned = {path: field_value(self._untuned, path) for path in config.space}
        proposals = trial_proposals(config, untuned, greater_is_better=metric != "log_loss")
        tasks: list[RunTask] = []
        batch: list[RunTask] = []
        score = None
        while len(tasks) < config.trials:
            try:
                values = proposals.send(score)
            except StopIteration:
                break
            task = self._trial(len(tasks) + 1, values, metric, config)
            tasks.append(task)
            if not task.finished:
                batch.append(task)
            if config.oracle == "bayesian":
                yield batch
                batch = []
                score = Trial.read(task.result).score
            else:
                # These oracles do not ask how a trial went.
                score = 0.0
        yield batch
        try:
            self.tuning = Tuning(config, metric, tuple(Trial.read(task.result) for task in tasks))
        except ValueError as error:
            raise ExperimentError(
                f"cannot tune {self._name}: {error}; see {self._trials_folder}"
            ) from error
        self.tuning.write(self._folder, self._untuned)

    def _trial(
        self, number: int, values: Mapping[str, Any], metric: str, config: TuningConfig
    ) -> RunTask:
        settings = ", ".join(f"{path} {json.dumps(value)}" for path, value in values.items())
        return RunTask(
            self._experiment(config.seed, values),
            self._trials_folder / f"trial-{number}",
            f"{self._name}, trial {number} of {config.trials}: {settings or 'untuned'}",
            metric,
            tuple(config.space),
        )
