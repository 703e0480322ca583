"""Which version of the macro tables a training row reads."""

from __future__ import annotations

import numpy as np

from tfmtl.graph.macro_config import MacroConfig

# The key under which a batch brings the versions of its rows; rows without one read version 0.
VERSION = "macro_version"


def training_versions(config: MacroConfig, num_rows: int) -> np.ndarray:
    """Versions of macro tables that do not know of the training rows that read them.

    Version f + 1 of `out_of_fold` leaves the rows of fold f out. A row alone may not be left out of
    what it reads: counts that lack just the row would tell a positive from a negative, by one.
    Version 1 of `history` has none of the training rows.

    Args:
        config: The macro graph's settings.
        num_rows: Number of training rows, in the order of the log.

    Returns:
        `int32 [num_rows]`, at least 1.

    Example:
        >>> sorted(training_versions(MacroConfig(folds=2), 4).tolist())
        [1, 1, 2, 2]
    """
    if config.counting == "history":
        return np.ones(num_rows, np.int32)
    versions = np.empty(num_rows, np.int32)
    order = np.random.default_rng(config.seed).permutation(num_rows)
    versions[order] = 1 + np.arange(num_rows) % config.folds
    return versions
