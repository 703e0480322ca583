"""The area under the ROC curve of every group, from one sort."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfmtl.metrics.scored_rows import ScoredRows

_CODES = 1 << 32


class AreaByGroup(NamedTuple):
    """AUC of each group that has rows, groups in ascending order.

    Args:
        areas: `float64 [groups]`, NaN where a group has rows of one class only.
        weights: Sum of the group's weights, `float64 [groups]`.
        rows: Number of the group's rows, `int64 [groups]`.

    Example:
        >>> import numpy as np
        >>> rows = ScoredRows.checked([0, 1, 1], [0.25, 0.5, 0.5])
        >>> AreaByGroup.of(rows, np.array([7, 7, 3])).areas
        array([nan,  1.])
    """

    areas: np.ndarray
    weights: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, rows: ScoredRows, groups: np.ndarray | None = None) -> AreaByGroup:
        """Sorts by (group, score) and counts, per run of equal scores, the negatives below it.

        The area is the share of (positive, negative) pairs in the right order, pairs of equal
        score counted half; with weights, each pair counts with the product of its weights.

        Args:
            rows: The rows to rank.
            groups: `[n]`, integers or strings; without it all rows are one group.
        """
        size = len(rows.labels)
        if size == 0:
            return cls(np.empty(0), np.empty(0), np.empty(0, np.int64))
        # One 64-bit key, so that a single vectorised sort orders by group and then by score.
        key = _codes(rows.scores)
        if groups is not None:
            key |= _codes(groups) << np.uint64(32)
        order = np.argsort(key)
        key = key[order]
        new_run = np.concatenate([[True], key[1:] != key[:-1]])
        runs = np.flatnonzero(new_run)
        of_run = key[runs] >> np.uint64(32)
        groups_first_run = np.flatnonzero(np.concatenate([[True], of_run[1:] != of_run[:-1]]))

        labels = rows.labels[order]
        if rows.weights is None:
            positives, negatives = labels, 1 - labels
        else:
            weights = rows.weights[order]
            positives, negatives = weights * labels, weights * (1 - labels)
        positives = np.add.reduceat(positives, runs)
        negatives = np.add.reduceat(negatives, runs)
        group_positives = np.add.reduceat(positives, groups_first_run)
        group_negatives = np.add.reduceat(negatives, groups_first_run)
        wins = positives * (_below(negatives, group_negatives, groups_first_run) + negatives / 2)
        pairs = group_positives * group_negatives
        areas = np.full(len(pairs), np.nan)
        np.divide(np.add.reduceat(wins, groups_first_run), pairs, out=areas, where=pairs > 0)
        first_row = runs[groups_first_run]
        return cls(areas, group_positives + group_negatives, np.diff(first_row, append=size))


def _below(values: np.ndarray, group_sums: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Sum of the group's earlier values.

    Each group's first step takes the previous group's sum back, so the running sum stays as small
    as a group's and loses no digits however many groups came before.
    """
    steps = np.concatenate([[0.0], values[:-1]])
    steps[first[1:]] -= group_sums[:-1]
    return np.cumsum(steps)


def _codes(values: np.ndarray) -> np.ndarray:
    """Numbers below 2**32 in the order of the values, equal where the values are, `uint64 [n]`."""
    if values.dtype == np.float32:
        # Adding 0 turns -0.0 into 0.0. The bits of positive floats are ordered already; those of
        # negative floats are ordered backwards.
        bits = (values + np.float32(0)).view(np.uint32)
        flip = np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
        return (bits ^ flip).astype(np.uint64)
    if values.dtype.kind in "iu":
        lowest = int(values.min())
        if int(values.max()) - lowest < _CODES:
            # Modulo 2**64, where negative values and unsigned ones alike give the distance.
            return values.astype(np.uint64) - np.uint64(lowest % (1 << 64))
    return np.unique(values, return_inverse=True)[1].astype(np.uint64)
