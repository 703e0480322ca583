import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tfmtl.metrics import gauc


def definition(labels, scores, users, weights, weighting):
    areas, shares = [], []
    for user in np.unique(users):
        mine = (users == user) & (weights > 0)
        if len(np.unique(labels[mine])) == 2:
            areas.append(roc_auc_score(labels[mine], scores[mine], sample_weight=weights[mine]))
            shares.append(weights[mine].sum() if weighting == "impressions" else 1)
    return np.average(areas, weights=shares), len(areas)


@pytest.mark.parametrize("weighting", ["impressions", "users"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_definition(rows, weighting, weighted, dtype):
    labels, probabilities, users, weights = rows
    scores = probabilities.astype(dtype)
    used = weights if weighted else np.ones_like(weights)
    expected, kept = definition(labels, scores, users, used, weighting)
    result = gauc(labels, scores, users, weights=weights if weighted else None, weighting=weighting)
    assert result.value == pytest.approx(expected, abs=1e-12)
    assert result.groups_kept == kept < result.groups_total == len(np.unique(users[used > 0]))


def test_users_of_one_class_count_neither_above_nor_below_the_line():
    # User 1: right order, AUC 1 on 2 rows. User 2: positive 4 against negatives 5 and 3, AUC 1/2
    # on 3 rows. User 3 has negatives only, user 4 positives only.
    labels = [1, 0, 0, 1, 0, 0, 0, 1]
    scores = [2, 1, 5, 4, 3, 9, 8, 0]
    users = [1, 1, 2, 2, 2, 3, 3, 4]
    result = gauc(labels, scores, users)
    assert result.value == pytest.approx((2 * 1 + 3 * 0.5) / 5)
    assert result[1:] == (2, 4, 5)
    assert gauc(labels, scores, users, weighting="users").value == (1 + 0.5) / 2


def test_differs_from_auc_when_users_differ_in_level():
    # Each user is ordered wrongly, but the user with more positives scores higher.
    labels, scores = [1, 1, 0, 1, 0, 0], [8, 7, 9, 1, 2, 3]
    assert gauc(labels, scores, [1, 1, 1, 2, 2, 2]).value == 0.0


@pytest.mark.parametrize(
    "users",
    [
        np.array(["b", "a", "b", "a"]),
        np.array(["b", "a", "b", "a"], object),
        np.array([2**62, -(2**62), 2**62, -(2**62)]),
        np.array([2**31 - 1, -(2**31), 2**31 - 1, -(2**31)], np.int32),
        np.array([2**64 - 1, 2**64 - 2, 2**64 - 1, 2**64 - 2], np.uint64),
    ],
    ids=["str", "object", "int64", "int32", "uint64"],
)
def test_takes_any_ids(users):
    assert gauc([1, 0, 0, 1], [0.5, 0.75, 0.25, 0.8], users) == (1.0, 2, 2, 4)


def test_does_not_lose_digits_over_many_groups():
    # Weights of very different size: a running sum over all groups would drown the small ones.
    users = np.repeat(np.arange(1001), 4)
    labels = np.tile([1.0, 0.0, 1.0, 0.0], 1001)
    scores = np.tile([4.0, 3.0, 2.0, 1.0], 1001)
    weights = np.where(users < 1000, 1e12 / 3, 1e-3 / 7)
    # Right pairs: (4, 3), (4, 1), (2, 1) of four.
    last = gauc(labels, scores, users, weights=weights, weighting="users")
    assert last.value == pytest.approx(0.75, abs=1e-12)


def test_no_function_is_called_per_user():
    """One AUC call per user makes evaluation take longer than training."""
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 20_000), rng.random(20_000)
    calls = []
    for users in (2, 2, 5_000):
        groups = np.arange(20_000) % users
        calls.append(0)

        def count(frame, event, argument):
            calls[-1] += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            result = gauc(labels, scores, groups)
        finally:
            sys.setprofile(None)
        assert result.groups_total == users
    # The first run may import what it needs.
    assert calls[1] == calls[2] > 0


def test_rows_of_weight_0_leave_with_their_groups():
    result = gauc([1, 0, 1], [0.5, 0.25, np.nan], [7, 7, 8], weights=[1, 1, 0])
    assert result == (1.0, 1, 1, 2)


def test_is_nan_without_a_group_of_both_classes():
    result = gauc([1, 0], [0.5, 0.2], [1, 2])
    assert np.isnan(result.value)
    assert result[1:] == (0, 2, 0)
    assert gauc([], [], [])[1:] == (0, 0, 0)


def test_refuses_other_shapes_and_words():
    with pytest.raises(ValueError, match=r"received labels \[2\], groups \[1\]"):
        gauc([1, 0], [0.5, 0.2], [1])
    with pytest.raises(ValueError, match="'impressions' or 'users'; received 'rows'"):
        gauc([1, 0], [0.5, 0.2], [1, 1], weighting="rows")
    with pytest.raises(ValueError, match="scores hold 1 NaN among 2 rows"):
        gauc([1, 0], [0.5, np.nan], [1, 1])
