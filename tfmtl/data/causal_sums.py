"""Sums per code over the rows that a row may know of, without a loop over rows."""

from __future__ import annotations

import numpy as np


def sums_per_code(codes: np.ndarray, counted: np.ndarray, size: int) -> np.ndarray:
    """Sums over all rows of each code.

    Args:
        codes: Code of each row, `[n]` in `0..size - 1`; code 0, a missing id, is left out.
        counted: What each row adds to the k sums, `int8 [k, n]`.
        size: Number of codes.

    Returns:
        `int64 [size, k]`.

    Example:
        >>> sums_per_code(np.array([2, 0, 2]), np.ones((1, 3), np.int8), 3).tolist()
        [[0], [0], [2]]
    """
    sums = np.stack([np.bincount(codes, row, size) for row in counted], axis=1).astype(np.int64)
    sums[0] = 0
    return sums


def sums_of_earlier_rows(codes: np.ndarray, counted: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Sums over the rows of the same code and a lower rank.

    Args:
        codes: Code of each row, `[n]`, from 0.
        counted: What each row adds to the k sums, `int8 [k, n]`.
        ranks: Dense rank of each row's time, `int64 [n]`, from 0.

    Returns:
        `int64 [k, n]`.

    Example:
        >>> ranks = np.array([1, 0, 1, 2])
        >>> sums_of_earlier_rows(np.zeros(4, np.int32), np.ones((1, 4), np.int8), ranks).tolist()
        [[1, 0, 1, 3]]
    """
    key = codes.astype(np.int64) * (ranks.max() + 1) + ranks
    order = np.argsort(key)
    first_of_code = _group_starts(codes[order])
    first_of_tie = _group_starts(key[order])
    sums = np.empty(counted.shape, np.int64)
    running = np.zeros(len(codes) + 1, np.int64)
    for row, total in zip(counted, sums, strict=True):
        np.cumsum(row[order], out=running[1:])
        total[order] = running[first_of_tie] - running[first_of_code]
    return sums


def sums_of_other_folds(
    codes: np.ndarray, counted: np.ndarray, size: int, fold_of: np.ndarray, folds: int
) -> np.ndarray:
    """Sums over the rows of the same code in other folds.

    Args:
        codes: Code of each row, `[n]` in `0..size - 1`.
        counted: What each row adds to the k sums, `int8 [k, n]`.
        size: Number of codes.
        fold_of: Fold of each row, `int64 [n]` in `0..folds - 1`.
        folds: Number of folds.

    Returns:
        `int64 [k, n]`.

    Example:
        >>> counted = np.ones((1, 3), np.int8)
        >>> sums_of_other_folds(np.zeros(3, np.int32), counted, 1, np.array([0, 1, 0]), 2).tolist()
        [[1, 2, 1]]
    """
    key = codes.astype(np.int64) * folds + fold_of
    sums = np.empty(counted.shape, np.int64)
    for row, total in zip(counted, sums, strict=True):
        own = np.bincount(key, row, size * folds).astype(np.int64)
        total[:] = own.reshape(size, folds).sum(axis=1)[codes] - own[key]
    return sums


def _group_starts(ordered: np.ndarray) -> np.ndarray:
    """For each position of a sorted array, the first position that holds the same value."""
    starts = np.zeros(len(ordered), np.int64)
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    starts[changes] = changes
    return np.maximum.accumulate(starts)
