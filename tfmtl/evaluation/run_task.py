"""One run of a comparison: a cell, or a trial of a tuning."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from tfmtl.evaluation.prepared_data_cache import PreparedDataCache
from tfmtl.evaluation.run_metrics import evaluate_run
from tfmtl.evaluation.trial import Trial
from tfmtl.evaluation.tuning import field_value
from tfmtl.metrics import TaskMetrics
from tfmtl.training import (
    CheckpointError,
    Experiment,
    ExperimentError,
    PreparedData,
    RunFolder,
    mean_metric,
    train,
)


@dataclass(frozen=True)
class RunTask:
    """Trains and scores one experiment into its run folder, or goes on with it.

    A cell leaves `metrics.json` with validation and test rows. A trial leaves `trial.json`; of its
    held-out rows only the validation rows are scored.

    Args:
        experiment: What to train.
        folder: The run folder.
        title: What it is, for people.
        metric: Of a trial, the metric that selects; None for a cell.
        fields: Of a trial, dotted names of the tuned fields.

    Example:
        >>> experiment = Experiment.from_yaml(
        ...     "{dataset: {name: simulator}, model: {name: mmoe}}")
        >>> RunTask(experiment, Path("runs/MMoE/seed-0"), "MMoE, seed 0").finished
        False
    """

    experiment: Experiment
    folder: Path
    title: str
    metric: str | None = None
    fields: tuple[str, ...] = ()

    @property
    def result(self) -> Path:
        """The file that a finished run has."""
        return self.folder / "trial.json" if self.metric else RunFolder(self.folder).metrics

    @property
    def finished(self) -> bool:
        """Whether the run need not be run.

        Raises:
            ExperimentError: If its folder holds the result of another experiment.
        """
        if not self.result.exists():
            return False
        before = Experiment.from_yaml(RunFolder(self.folder).experiment)
        if before.resolved() != self.experiment.resolved():
            raise ExperimentError(
                f"{self.folder} holds the result of another experiment: delete it or compare into "
                "another folder"
            )
        return True

    def run(self, cache: PreparedDataCache, *, progress: bool = False) -> None:
        """Runs it. What makes a trial fail is its result; data that is missing is an error.

        Args:
            cache: Where the data comes from.
            progress: Whether to show progress bars.
        """
        data = cache.get(self.experiment)
        if self.metric is None:
            self._train_and_score(data, ("validation", "test"), progress)
            return
        started = time.perf_counter()
        score, failure = None, None
        try:
            metrics = self._train_and_score(data, ("validation",), progress)["validation"]
            score = mean_metric(metrics, self.metric)
            if not math.isfinite(score):
                score, failure = None, f"{self.metric} is {score} on the validation rows"
        except ExperimentError:
            raise
        except (ArithmeticError, RuntimeError, TypeError, ValueError, tf.errors.OpError) as error:
            # TensorFlow's errors go on with the graph.
            reason = next(iter(str(error).strip().splitlines()), "")
            failure = f"{type(error).__name__}: {reason}"
        values = {path: field_value(self.experiment, path) for path in self.fields}
        seconds = time.perf_counter() - started
        Trial(values, score, seconds, failure).write(self.result)

    def _train_and_score(
        self, data: PreparedData, parts: tuple[str, ...], progress: bool
    ) -> dict[str, dict[str, TaskMetrics]]:
        experiment, run = self.experiment, RunFolder(self.folder)
        try:
            model = train(
                experiment,
                self.folder,
                data=data,
                resume=run.experiment.exists(),
                progress=progress,
            )
        except CheckpointError:
            run.experiment.unlink()
            model = train(experiment, self.folder, data=data, progress=progress)
        return evaluate_run(
            model,
            data,
            self.folder,
            parts=parts,
            batch_size=experiment.training.evaluation_batch_size,
        )
