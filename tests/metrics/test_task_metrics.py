import dataclasses
import math

import numpy as np
import pytest

from tfmtl.metrics import (
    auc,
    expected_calibration_error,
    gauc,
    log_loss,
    task_metrics,
)


def test_gathers_the_metrics_of_the_defined_rows(rows):
    labels, probabilities, users, weights = rows
    defined = weights > 0
    mask = defined.astype(np.float32)
    labels = np.where(defined, labels, np.nan)
    metrics = task_metrics(labels, probabilities, mask, users)
    kept = (labels[defined], probabilities[defined])
    within = gauc(*kept, users[defined])
    assert dataclasses.asdict(metrics) == {
        "auc": auc(*kept),
        "gauc": within.value,
        "log_loss": log_loss(*kept),
        "ece": expected_calibration_error(*kept),
        "rows": defined.sum(),
        "positives": labels[defined].sum(),
        "users_kept": within.groups_kept,
    }


def test_uses_weights_that_are_not_masks():
    metrics = task_metrics([1, 0, 1, 0], [0.9, 0.8, 0.5, 0.1], [2, 3, 1, 5], [7, 7, 7, 7])
    # Right pairs: 2*3 + 2*5 + 1*5 = 21 of 24, as one user and as a whole.
    assert metrics.auc == metrics.gauc == pytest.approx(21 / 24)
    assert (metrics.rows, metrics.positives, metrics.users_kept) == (4, 2, 1)


def test_without_users_there_is_no_gauc():
    metrics = task_metrics([1, 0], [0.9, 0.8])
    assert math.isnan(metrics.gauc)
    assert (metrics.auc, metrics.users_kept) == (1.0, 0)


def test_without_rows_all_is_nan():
    metrics = task_metrics([np.nan], [0.5], [0], [1])
    assert all(math.isnan(getattr(metrics, name)) for name in ("auc", "gauc", "log_loss", "ece"))
    assert (metrics.rows, metrics.positives, metrics.users_kept) == (0, 0, 0)


def test_refuses_users_of_another_length():
    with pytest.raises(ValueError, match=r"received labels \[2\], groups \[3\]"):
        task_metrics([1, 0], [0.5, 0.2], None, [1, 2, 3])
