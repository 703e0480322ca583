"""Settings of the causal statistics."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator


class StatisticsConfig(BaseModel):
    """Which entities are counted, and how.

    Args:
        entities: `user_id`, `item_id` or names of categorical features.
        prior: Rows at the global rate that every entity starts from.
        granularity: 0 counts strictly earlier rows; otherwise rows in earlier periods of this
            length, in the log's time unit. Periods start at the first training row.
        folds: Folds of the out-of-fold statistics of a log without times.
        seed: Seed of the folds.
        counts: Whether each entity also gets the logarithm of its number of rows.

    Example:
        >>> StatisticsConfig(entities=["user_id", "author"]).prior
        20.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entities: tuple[str, ...] = Field(min_length=1)
    prior: float = Field(default=20.0, gt=0, allow_inf_nan=False)
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
