"""What a tuning may choose for one field of an experiment."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Proposals are rounded to so many digits: enough to tell two settings apart, and few enough that
# the last bits of an optimum do not depend on the machine.
_DIGITS = 4


class _Dimension(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    @abstractmethod
    def examples(self) -> tuple[Any, ...]:
        """Values that must all make an experiment: the ends of a range, or every choice."""

    @abstractmethod
    def contains(self, value: Any) -> bool:
        """Whether a value could be proposed."""

    @abstractmethod
    def register(self, name: str, hyperparameters: Any, start: Any | None) -> None:
        """Adds the dimension to a `keras_tuner.HyperParameters`.

        Args:
            name: The dotted name.
            hyperparameters: What to add to.
            start: The untuned value; None where the tuner does not start there.
        """

    @abstractmethod
    def encode(self, value: Any) -> Any:
        """What the tuner knows a value as."""

    @abstractmethod
    def decode(self, proposed: Any) -> Any:
        """The value that a proposal of the tuner stands for."""


class _Range(_Dimension):
    low: float
    high: float
    sampling: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _check(self) -> _Range:
        if self.low >= self.high:
            raise ValueError(
                f"expected low below high; received {self.low} and {self.high}: a single value "
                "needs no tuning"
            )
        if self.sampling == "log" and self.low <= 0:
            raise ValueError(
                f"sampling 'log' needs a positive low; received {self.low}: use 'linear'"
            )
        return self

    @property
    def examples(self) -> tuple[Any, ...]:
        return self.low, self.high

    def contains(self, value: Any) -> bool:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and self.low <= value <= self.high

    def encode(self, value: Any) -> Any:
        return value


class FloatRange(_Range):
    """Numbers between two bounds, both of them included.

    Args:
        kind: Always `float`.
        low: Smallest value.
        high: Largest value.
        sampling: `log` draws the logarithm evenly, `linear` the number itself.

    Example:
        >>> FloatRange(kind="float", low=1e-4, high=1e-2, sampling="log").contains(0.02)
        False
    """

    kind: Literal["float"]

    def register(self, name: str, hyperparameters: Any, start: Any | None) -> None:
        """Adds the range to a `keras_tuner.HyperParameters`."""
        hyperparameters.Float(name, self.low, self.high, sampling=self.sampling, default=start)

    def decode(self, proposed: Any) -> float:
        """The proposal within the bounds, to four significant digits."""
        return min(max(float(f"{proposed:.{_DIGITS}g}"), self.low), self.high)


class IntRange(_Range):
    """Whole numbers between two bounds, both of them included.

    Args:
        kind: Always `int`.
        low: Smallest value.
        high: Largest value.
        sampling: `log` draws the logarithm evenly, `linear` the number itself.

    Example:
        >>> IntRange(kind="int", low=2, high=8).examples
        (2, 8)
    """

    kind: Literal["int"]
    low: int
    high: int

    def register(self, name: str, hyperparameters: Any, start: Any | None) -> None:
        """Adds the range to a `keras_tuner.HyperParameters`."""
        hyperparameters.Int(name, self.low, self.high, sampling=self.sampling, default=start)

    def decode(self, proposed: Any) -> int:
        """The proposal within the bounds."""
        return min(max(int(proposed), self.low), self.high)


class Choice(_Dimension):
    """One of several values of any kind: numbers, names, lists, null.

    Args:
        kind: Always `choice`.
        values: The values, from small to large where they have an order.

    Example:
        >>> Choice(kind="choice", values=[[32], [64, 32]]).contains([64, 32])
        True
    """

    kind: Literal["choice"]
    values: tuple[Any, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Choice:
        twice = [one for place, one in enumerate(self.values) if one in self.values[:place]]
        if twice:
            raise ValueError(f"expected every value once; received {twice[0]!r} again")
        return self

    @property
    def examples(self) -> tuple[Any, ...]:
        """All values."""
        return self.values

    def contains(self, value: Any) -> bool:
        """Whether it is one of the values."""
        return value in self.values

    def register(self, name: str, hyperparameters: Any, start: Any | None) -> None:
        """Adds the places of the values: the tuner itself takes no lists and no null."""
        hyperparameters.Choice(name, list(range(len(self.values))), default=start)

    def encode(self, value: Any) -> int:
        """Place of the value."""
        return self.values.index(value)

    def decode(self, proposed: Any) -> Any:
        """Value at the place."""
        return self.values[proposed]
