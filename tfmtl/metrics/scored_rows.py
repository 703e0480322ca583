"""The rows a metric is computed on, checked."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class ScoredRows(NamedTuple):
    """Labels and scores of the rows that count, and which rows of the input they were.

    Args:
        labels: 0 and 1, `float64 [n]`.
        scores: `float32 [n]` or `float64 [n]`, without NaN.
        weights: Positive, `float64 [n]`; `None` when every row counts once.
        kept: Mask over the rows received, `bool [rows]`, with `n` true values; `None` when all
            rows were kept.

    Example:
        >>> ScoredRows.checked([1, 0, 9], [0.5, 0.25, 0.0], weights=[1, 1, 0]).labels
        array([1., 0.])
    """

    labels: np.ndarray
    scores: np.ndarray
    weights: np.ndarray | None
    kept: np.ndarray | None

    @classmethod
    def checked(
        cls,
        labels: ArrayLike,
        scores: ArrayLike,
        weights: ArrayLike | None = None,
        *,
        probabilities: bool = False,
    ) -> ScoredRows:
        """Drops the rows of weight 0, whatever they hold, and checks the others.

        Args:
            labels: `[rows]`, 0 or 1.
            scores: `[rows]`, any number but NaN.
            weights: `[rows]`, finite and at least 0.
            probabilities: Whether scores must lie between 0 and 1.

        Raises:
            ValueError: If shapes differ, or a row that counts has a NaN score, a score outside
                the range, or a label other than 0 and 1.
        """
        labels, scores = np.asarray(labels), np.asarray(scores)
        if scores.dtype not in (np.float32, np.float64):
            scores = scores.astype(np.float32 if scores.dtype == np.float16 else np.float64)
        check_shapes(labels=labels, scores=scores)
        kept = None
        if weights is not None:
            weights = np.asarray(weights, np.float64)
            check_shapes(labels=labels, weights=weights)
            wrong = ~(np.isfinite(weights) & (weights >= 0))
            if wrong.any():
                raise ValueError(
                    f"expected finite weights of at least 0; received {wrong.sum()} others, "
                    f"for instance {weights[wrong][0]}"
                )
            kept = weights > 0
            if kept.all():
                kept = None
            else:
                labels, scores, weights = labels[kept], scores[kept], weights[kept]
            if np.all(weights == 1):
                weights = None
        missing = np.isnan(scores)
        if missing.any():
            raise ValueError(
                f"scores hold {missing.sum()} NaN among {scores.size} rows; the model diverged or "
                "a feature is missing: rows to leave out need weight 0"
            )
        if probabilities and scores.size and not (scores.min() >= 0 and scores.max() <= 1):
            raise ValueError(
                "expected probabilities between 0 and 1; received scores from "
                f"{scores.min()} to {scores.max()}: apply the sigmoid to logits first"
            )
        wrong = (labels != 0) & (labels != 1)
        if wrong.any():
            raise ValueError(
                f"expected labels 0 and 1; received {wrong.sum()} others among {labels.size} "
                f"rows, for instance {labels[wrong][0]}: rows without a label need weight 0"
            )
        return cls(labels.astype(np.float64), scores, weights, kept)


def check_shapes(**arrays: np.ndarray) -> None:
    """Checks that all arrays, named by their argument, have one dimension and one length.

    Raises:
        ValueError: Naming the arrays and the shapes received.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        received = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ValueError(f"expected one value per row, each [rows]; received {received}")
