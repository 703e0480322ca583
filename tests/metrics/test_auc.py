import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tfmtl.metrics import auc


def test_counts_a_tie_as_half_a_pair():
    # Positives 5 and 2, negatives 3, 2 and 1. 5 beats all three; 2 ties with 2 and beats 1.
    # (3 + 0 + 0.5 + 1) / 6 = 0.75.
    assert auc([1, 0, 1, 0, 0], [5, 3, 2, 2, 1]) == 0.75


def test_weights_count_pairs_by_their_product():
    # Positives: 5 (weight 2) and 2 (weight 1). Negatives: 3 (weight 3) and 1 (weight 5).
    # Right pairs: 2*3 + 2*5 + 1*5 = 21 of 3 * 8 = 24.
    assert auc([1, 0, 1, 0], [5, 3, 2, 1], weights=[2, 3, 1, 5]) == 21 / 24


def test_equals_the_reference(rows):
    labels, probabilities, _, weights = rows
    assert auc(labels, probabilities) == pytest.approx(
        roc_auc_score(labels, probabilities), abs=1e-12
    )
    assert auc(labels, probabilities, weights) == pytest.approx(
        roc_auc_score(labels, probabilities, sample_weight=weights), abs=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_orders_negative_and_zero_scores(dtype):
    # -0.0 and 0.0 are one score: pairs (0.0, -2) right, (0.0, -0.0) tied, (0.0, 3) wrong.
    scores = np.array([0.0, -2.0, -0.0, 3.0], dtype)
    assert auc([1, 0, 0, 0], scores) == 0.5


def test_ranks_integer_scores_that_span_64_bits():
    scores = np.array([2**62, -(2**62), 0])
    assert auc([1, 0, 0], scores) == 1.0
    assert auc([0, 1, 0], scores) == 0.0


def test_is_nan_without_both_classes():
    assert np.isnan(auc([1, 1], [0.1, 0.2]))
    assert np.isnan(auc([], []))
    assert np.isnan(auc([1, 0], [0.1, 0.2], weights=[1, 0]))


def test_rows_of_weight_0_may_hold_anything():
    assert auc([1, 0, np.nan], [0.9, 0.1, np.nan], weights=[1, 1, 0]) == 1.0


@pytest.mark.parametrize(
    ("labels", "scores", "weights", "message"),
    [
        ([1, 0], [0.5], None, r"received labels \[2\], scores \[1\]"),
        ([[1], [0]], [[0.5], [0.2]], None, r"each \[rows\]; received labels \[2, 1\]"),
        ([1, 0], [0.5, 0.2], [1], r"received labels \[2\], weights \[1\]"),
        ([1, 0, 0], [np.nan, np.nan, 0.2], None, "scores hold 2 NaN among 3 rows"),
        ([1, 0, 2], [0.5, 0.2, 0.1], None, "received 1 others among 3 rows, for instance 2"),
        ([1, np.nan], [0.5, 0.2], None, "for instance nan: rows without a label need weight 0"),
        ([1, 0], [0.5, 0.2], [1, -3], "weights of at least 0; received 1 others, .* -3"),
        ([1, 0], [0.5, 0.2], [np.inf, 1], "finite weights"),
    ],
)
def test_refuses(labels, scores, weights, message):
    with pytest.raises(ValueError, match=message):
        auc(labels, scores, weights)
