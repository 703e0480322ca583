"""How the models of a comparison are tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tfmtl.evaluation.search_space import Choice, FloatRange, IntRange
from tfmtl.training.yaml_document import validated

_KINDS: dict[str, type[FloatRange] | type[IntRange] | type[Choice]] = {
    "float": FloatRange,
    "int": IntRange,
    "choice": Choice,
}
# What every trial of a comparison must share, or their scores would not be of the same thing.
_FIXED = ("dataset.name", "dataset.options", "model.name", "training.monitor", "training.seed")

SearchSpace = dict[str, FloatRange | IntRange | Choice]


class TuningConfig(BaseModel):
    """One budget and one search space for all models.

    Every model gets the same number of trials on the validation rows. The first is its untuned
    setting, so that tuning never ends below it there; the oracle of KerasTuner proposes the others.

    Args:
        trials: Trials per model and log, the untuned one included.
        oracle: `random` draws, `bayesian` fits a Gaussian process to the scores after one trial
            more than there are fields, `grid` takes every combination in order, the last field
            fastest, of a range ten values at most, and stops after as many trials.
        seed: Seed of the proposals, and of every trial's weights, order of rows and sampling.
        metric: Validation metric, averaged over tasks, that selects the trial; the experiment's
            `training.monitor` when not given.
        space: Dotted name of a field, as `--set` takes it, to what may be chosen: `{kind: float,
            low: 1e-4, high: 1e-2, sampling: log}`, `{kind: int, low: 2, high: 8}` or `{kind:
            choice, values: [0.0, 0.2]}`.

    Example:
        >>> tuning = TuningConfig(trials=4, space={
        ...     "training.learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-2}})
        >>> tuning.space["training.learning_rate"].high
        0.01
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int = Field(8, ge=1)
    oracle: Literal["random", "bayesian", "grid"] = "random"
    seed: int = Field(0, ge=0)
    metric: Literal["auc", "gauc", "log_loss"] | None = None
    space: SearchSpace = {}

    @field_validator("space", mode="before")
    @classmethod
    def _parsed(cls, space: Any) -> SearchSpace:
        return _parsed_space(space)


class ModelTuning(BaseModel):
    """What one model's search space has of its own.

    Args:
        space: Fields that the others' space does not have, or has otherwise.
        exclude: Fields of the others' space that this model does not have, or keeps as they are.

    Example:
        >>> ModelTuning(exclude=["model.hyperparameters.num_experts"]).exclude
        ('model.hyperparameters.num_experts',)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: SearchSpace = {}
    exclude: tuple[str, ...] = ()

    @field_validator("space", mode="before")
    @classmethod
    def _parsed(cls, space: Any) -> SearchSpace:
        return _parsed_space(space)

    def applied(self, shared: TuningConfig) -> TuningConfig:
        """The shared settings with this model's space.

        Args:
            shared: What all models share.

        Raises:
            ValueError: If an excluded field is not in the shared space.
        """
        unknown = [path for path in self.exclude if path not in shared.space]
        if unknown:
            raise ValueError(
                f"tuning.exclude names {unknown}; expected some of the shared space "
                f"{list(shared.space)}"
            )
        kept = {path: one for path, one in shared.space.items() if path not in self.exclude}
        return shared.model_copy(update={"space": {**kept, **self.space}})


def _parsed_space(space: Any) -> SearchSpace:
    if not isinstance(space, Mapping):
        raise ValueError(f"expected dotted names of fields; received {space!r}")
    parsed: SearchSpace = {}
    for path, content in space.items():
        if "." not in str(path):
            raise ValueError(f"expected section.field, as --set takes it; received {path!r}")
        if any(f"{path}.".startswith(f"{fixed}.") for fixed in _FIXED):
            raise ValueError(
                f"{path!r} cannot be tuned: all trials share {', '.join(_FIXED)}; leave it out"
            )
        if isinstance(content, (FloatRange, IntRange, Choice)):
            parsed[path] = content
            continue
        kind = content.get("kind") if isinstance(content, Mapping) else None
        if not isinstance(kind, str) or kind not in _KINDS:
            raise ValueError(f"{path}: expected a kind among {list(_KINDS)}; received {content!r}")
        try:
            parsed[path] = validated(_KINDS[kind], content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return parsed
