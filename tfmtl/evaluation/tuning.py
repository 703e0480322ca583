"""What the tuning of one model found."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from tfmtl.evaluation.trial import Trial
from tfmtl.evaluation.tuning_config import TuningConfig
from tfmtl.training import Experiment
from tfmtl.training.yaml_document import parse_yaml, validated


@dataclass(frozen=True)
class Tuning:
    """The trials of one model on one log, and which of them is best.

    Args:
        config: Budget, oracle and the model's space.
        metric: Validation metric, averaged over tasks, that selected.
        trials: The trials in order, the untuned setting first.

    Raises:
        ValueError: If every trial failed.

    Example:
        >>> trials = (Trial({"model.dim": 16}, 0.70, 2.5), Trial({"model.dim": 8}, 0.72, 2.0))
        >>> tuning = Tuning(TuningConfig(trials=2), "auc", trials)
        >>> tuning.best, tuning.chosen, tuning.seconds
        (1, {'model.dim': 8}, 4.5)
    """

    config: TuningConfig
    metric: str
    trials: tuple[Trial, ...]

    def __post_init__(self) -> None:
        if all(trial.score is None for trial in self.trials):
            raise ValueError(
                f"all {len(self.trials)} trials failed, the untuned one with: "
                f"{self.trials[0].failure}"
            )

    @property
    def best(self) -> int:
        """Place of the best trial; of equals the first."""
        sign = 1 if self.metric == "log_loss" else -1
        scores = {
            place: sign * trial.score
            for place, trial in enumerate(self.trials)
            if trial.score is not None
        }
        return min(scores, key=lambda place: scores[place])

    @property
    def chosen(self) -> dict[str, Any]:
        """What is set in the experiment; nothing where the untuned setting is best."""
        return dict(self.trials[self.best].values) if self.best else {}

    @property
    def seconds(self) -> float:
        """Time of all trials."""
        return sum(trial.seconds for trial in self.trials)

    def write(self, folder: Path, untuned: Experiment) -> None:
        """Writes `tuning.yaml` and, for the eye, `tuning.csv` with a line per trial.

        Args:
            folder: The model's folder.
            untuned: The experiment that was tuned.
        """
        content = {
            "chosen": self.chosen,
            "best_trial": self.best + 1,
            "metric": self.metric,
            "trials": [asdict(trial) for trial in self.trials],
            "tuning": self.config.model_dump(mode="json"),
            "untuned": untuned.resolved(),
        }
        aside = folder / ".tuning.partial"
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["trial", *self.config.space, self.metric, "seconds", "failure"])
            for number, trial in enumerate(self.trials, 1):
                values = [trial.values[path] for path in self.config.space]
                score = "" if trial.score is None else trial.score
                writer.writerow([number, *values, score, trial.seconds, trial.failure or ""])
        aside.replace(folder / "tuning.csv")
        # Last: it is what a finished tuning is known by.
        aside.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        aside.replace(folder / "tuning.yaml")

    @classmethod
    def read(cls, folder: Path, config: TuningConfig, untuned: Experiment) -> Tuning | None:
        """Reads a finished tuning back.

        Args:
            folder: The model's folder.
            config: The settings it must have had.
            untuned: The experiment that must have been tuned.

        Returns:
            The tuning; None where there is none, or one with other settings.

        Raises:
            ValueError: If the file is damaged.
        """
        path = folder / "tuning.yaml"
        if not path.exists():
            return None
        try:
            content = parse_yaml(path.read_text(encoding="utf-8"))
            trials = tuple(Trial(**one) for one in content["trials"])
            before = validated(Experiment, content["untuned"]).resolved()
            if before != untuned.resolved() or validated(TuningConfig, content["tuning"]) != config:
                return None
            return cls(config, content["metric"], trials)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} is not the result of a tuning: delete it and compare again"
            ) from error


def field_value(experiment: Experiment, path: str) -> Any:
    """One field of an experiment, every default named.

    Args:
        experiment: The experiment.
        path: Dotted name of the field.

    Returns:
        Its value; None where the experiment does not have the field's section.

    Example:
        >>> experiment = Experiment.from_yaml(
        ...     "{dataset: {name: simulator}, model: {name: mmoe}}")
        >>> field_value(experiment, "model.hyperparameters.num_experts")
        4
    """
    content: Any = experiment.resolved()
    for name in path.split("."):
        content = content.get(name) if isinstance(content, Mapping) else None
    return content
