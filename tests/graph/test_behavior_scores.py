import numpy as np
import pytest

from tfmtl.graph import behavior_scores
from tfmtl.schema import Task

CHAIN = [Task(name=name, order=order) for order, name in enumerate(["click", "favor", "buy"])]


@pytest.mark.parametrize(
    ("beta", "expected"),
    [(0.5, [0.828, 2.0, 3.657]), (1, [1, 3, 7]), (0, [0.693, 1.386, 2.079])],
)
def test_golden(beta, expected):
    # Of a chain the combination is its own rank: ranks 1, 3 and 7, plus one: 2, 4 and 8.
    # beta 1/2: 2 (sqrt 2 - 1), 2 (2 - 1), 2 (sqrt 8 - 1); beta 0: log 2, log 4, log 8.
    scores = behavior_scores(CHAIN, beta=beta)
    np.testing.assert_allclose(scores[[1, 3, 7]], expected, atol=6e-4)
    assert scores[0] == 0
    assert scores.shape == (8,)
    assert scores.dtype == np.float32


def test_rounded_scores_are_the_weights_drawn_in_the_paper():
    click, favor, buy = 1, 2, 4
    scores = behavior_scores(CHAIN)[[click, favor, buy, favor | buy]]
    # (2^.8 - 1) / .8 = .93, (3^.8 - 1) / .8 = 1.76, (5^.8 - 1) / .8 = 3.28, (7^.8 - 1) / .8 = 4.68.
    np.testing.assert_allclose(scores, [0.93, 1.76, 3.28, 4.68], atol=5e-3)
    assert scores.round().tolist() == [1, 2, 3, 5]


def test_beta_near_zero_comes_near_the_logarithm():
    near, limit = behavior_scores(CHAIN, beta=1e-6), behavior_scores(CHAIN, beta=0)
    np.testing.assert_allclose(near, limit, rtol=1e-4)


def test_bits_follow_the_order_of_the_tasks_and_ranks_their_strength():
    backwards = behavior_scores(CHAIN[::-1], beta=1)
    # Bit 0 is now buy, of rank 4, and bit 2 is click, of rank 1.
    assert backwards.tolist() == [0, 4, 2, 6, 1, 5, 3, 7]


def test_tied_behaviors_score_alike():
    tasks = [Task(name="click"), Task(name="cart", order=1), Task(name="favor", order=1)]
    scores = behavior_scores(tasks, beta=1)
    # Ranks 1, 2 and 2.
    assert scores.tolist() == [0, 1, 2, 3, 2, 3, 4, 5]


def test_behaviors_that_are_not_ranked_add_nothing():
    scores = behavior_scores(CHAIN, beta=1, behaviors=["buy", "click"])
    # click 1, buy 2; favor, bit 1, changes nothing.
    assert scores.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]


def test_a_parent_that_is_not_ranked_is_passed_over():
    tasks = [Task(name="view"), Task(name="like", parent="view"), Task(name="buy", parent="like")]
    assert behavior_scores(tasks, beta=1, behaviors=["like"]).tolist() == [0, 0, 1, 1] * 2
    # Without `like` nothing orders view and buy, which then count alike.
    assert behavior_scores(tasks, beta=1, behaviors=["view", "buy"])[[1, 4, 5]].tolist() == [
        1,
        1,
        2,
    ]


def test_refuses_what_has_no_score():
    with pytest.raises(ValueError, match=r"among the tasks \['click', .*received \['like'\]"):
        behavior_scores(CHAIN, behaviors=["like"])
    with pytest.raises(ValueError, match=r"expected behaviors among .*received \[\]"):
        behavior_scores(CHAIN, behaviors=[])
    with pytest.raises(ValueError, match="expected a finite beta; received nan"):
        behavior_scores(CHAIN, beta=float("nan"))
    with pytest.raises(ValueError, match=r"expected at most 16 tasks, .*received 17: leave some"):
        behavior_scores([Task(name=f"t{n}") for n in range(17)])
