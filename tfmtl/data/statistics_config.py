"""Settings of the causal statistics."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class StatisticsConfig(BaseModel):
    """Which entities are counted, and how.

    Args:
        entities: `user_id`, `item_id` or names of categorical features.
        prior: Rows at the global rate that every entity starts from.
        counting: What a training row sees: `causal`, rows before it, or `out_of_fold`, the rows of
            the other folds and all of the history. Causal columns are those a model would have had
            on that day; in a log of a few days they count far fewer rows than those of the
            requests to come, which out-of-fold columns match. A log without times is always
            counted out of fold.
        granularity: 0 counts strictly earlier rows; otherwise rows in earlier periods of this
            length, in the log's time unit. Periods start at the first training row.
        folds: Folds of the out-of-fold statistics.
        seed: Seed of the folds.
        counts: Whether each entity also gets the logarithm of its number of rows.

    Example:
        >>> StatisticsConfig(entities=["user_id", "author"]).prior
        20.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entities: tuple[str, ...] = Field(min_length=1)
    prior: float = Field(default=20.0, gt=0, allow_inf_nan=False)
    counting: Literal["causal", "out_of_fold"] = "causal"
    granularity: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    folds: int = Field(default=5, ge=2)
    seed: int = Field(default=0, ge=0)
    counts: bool = True

    @field_validator("entities")
    @classmethod
    def _check_distinct(cls, entities: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({name for name in entities if entities.count(name) > 1})
        if repeated:
            raise ValueError(f"expected distinct entities; repeated: {repeated}")
        return entities

    @model_validator(mode="after")
    def _check_granularity(self) -> StatisticsConfig:
        if self.granularity and self.counting == "out_of_fold":
            raise ValueError(
                f"granularity {self.granularity:g} has no meaning out of fold: leave it out, or "
                "set counting: causal"
            )
        return self
