import numpy as np
import pytest

from tfmtl.graph.preference_weights import preference_weights

SCORES = np.array([[1, 2, 3, 2, 0], [1, 5, 0, 5, 1], [0, 0, 2, 0, 1]], float)


def test_the_paper_greys_out_the_same_nodes():
    users, items = SCORES.sum(1), SCORES.sum(0)
    assert users.tolist() == [8, 12, 3]
    assert items.tolist() == [2, 7, 5, 7, 2]
    assert preference_weights(users, 4, activity="value").tolist() == [1, 1, 0]
    assert preference_weights(items, 4, activity="value").tolist() == [0, 1, 1, 1, 0]
    assert preference_weights(items, 7, activity="value").tolist() == [0, 1, 0, 1, 0]


def test_ratio_weighs_by_the_share_of_the_threshold():
    weights = preference_weights(
        np.array([0, 1, 3, 4, 9.0]), 4, activity="value", weighting="ratio"
    )
    assert weights.tolist() == [0, 0.25, 0.75, 1, 1]
    assert weights.dtype == np.float32


def test_a_quantile_is_one_of_nodes_with_edges():
    sums = np.array([0, 0, 0, 0, 0, 10, 40, 20, 50, 30.0])
    # Of 10, 20, 30, 40 and 50 the quantile 1/2 is 30, of which zeros would make 0.
    assert preference_weights(sums, 0.5).tolist() == [0] * 5 + [0, 1, 0, 1, 1]
    # Between two sums it is the lower: 0.45 of 4 steps is 1.8, so 20.
    assert preference_weights(sums, 0.45).tolist() == [0] * 5 + [0, 1, 1, 1, 1]
    assert preference_weights(sums, 0.5, weighting="ratio")[5:].tolist() == pytest.approx(
        [1 / 3, 1, 2 / 3, 1, 1]
    )


@pytest.mark.parametrize("weighting", ["binary", "ratio"])
def test_at_threshold_zero_all_nodes_with_edges_are_active(weighting):
    for activity in ("value", "quantile"):
        weights = preference_weights(
            np.array([0, 3, 0.5]), 0, activity=activity, weighting=weighting
        )
        assert weights.tolist() == [0, 1, 1]


def test_refuses_a_threshold_that_nobody_reaches():
    with pytest.raises(
        ValueError, match=r"highest sum of scores is 12 and the threshold 13: lower"
    ):
        preference_weights(SCORES.sum(1), 13, activity="value")
    with pytest.raises(ValueError, match=r"no node is active: .*or give the graph edges"):
        preference_weights(np.zeros(3), 0.2)
