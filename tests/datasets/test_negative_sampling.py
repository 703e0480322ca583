import numpy as np
import pytest

from tfmtl.datasets import DatasetError
from tfmtl.datasets.negative_sampling import sample_negatives

# Of items 30, 10 and 20 there are 81, 1 and 16 training positives: to the power of 0.75 that is
# 27, 1 and 8, which sums to 36.
_TRAINING_ITEMS = np.repeat([30, 10, 20], [81, 1, 16])


def _pairs(users, items):
    return set(zip(users.tolist(), items.tolist(), strict=True))


def _chi_square(items, expected):
    counts = np.asarray([(items == item).sum() for item in expected])
    assert counts.sum() == len(items)
    wanted = len(items) * np.asarray(list(expected.values()))
    return ((counts - wanted) ** 2 / wanted).sum()


def test_no_negative_is_a_known_positive_and_every_row_has_its_number():
    random = np.random.default_rng(5)
    known_users, known_items = random.integers(0, 30, 400), random.integers(0, 50, 400)
    users, training_items = known_users[:300], known_items[:200]
    rows, items = sample_negatives(
        users, training_items, known_users=known_users, known_items=known_items, ratio=3
    )
    np.testing.assert_array_equal(rows, np.repeat(np.arange(300), 3))
    assert not _pairs(users[rows], items) & _pairs(known_users, known_items)


def test_items_are_drawn_by_training_popularity_to_three_quarters():
    # Item 40 is popular, but outside the training part.
    _, items = sample_negatives(
        np.full(15_000, 7),
        _TRAINING_ITEMS,
        known_users=np.full(200, 8),
        known_items=np.full(200, 40),
        ratio=6,
    )
    # Two degrees of freedom: 13.8 is passed by chance once in a thousand seeds.
    assert _chi_square(items, {10: 1 / 36, 20: 8 / 36, 30: 27 / 36}) < 13.8
    assert _chi_square(items, {10: 1 / 98, 20: 16 / 98, 30: 81 / 98}) > 1000


def test_what_a_user_knows_leaves_the_other_items_in_proportion():
    users = np.tile([7, 8], 20_000)
    rows, items = sample_negatives(
        users,
        _TRAINING_ITEMS,
        known_users=np.asarray([7, 8]),
        known_items=np.asarray([30, 10]),
        ratio=1,
    )
    owners = users[rows]
    # One degree of freedom: 10.8 is passed by chance once in a thousand seeds.
    assert _chi_square(items[owners == 7], {10: 1 / 9, 20: 8 / 9}) < 10.8
    assert _chi_square(items[owners == 8], {20: 8 / 35, 30: 27 / 35}) < 10.8


def test_draws_repeat_with_their_seed():
    def draws(seed):
        known = {"known_users": np.asarray([7]), "known_items": np.asarray([20])}
        _, items = sample_negatives(np.full(50, 7), _TRAINING_ITEMS, **known, seed=seed)
        return items.tolist()

    assert draws(3) == draws(3) != draws(4)


def test_a_user_who_met_every_item_has_no_negatives():
    rows, items = sample_negatives(
        np.asarray([8, 7, 8]),
        _TRAINING_ITEMS,
        known_users=np.asarray([8, 8, 8, 7]),
        known_items=np.asarray([10, 20, 30, 30]),
        ratio=2,
    )
    assert rows.tolist() == [1, 1]
    assert set(items.tolist()) <= {10, 20}


def test_draws_that_keep_failing_are_dropped():
    # The only open item is drawn with the chance 1 / (1 + 10,000^0.75) = 1 / 1001, so a hundred
    # rounds fill 1 - (1000 / 1001)^100 = 9.5 % of the rows: 95 of 1000, with a deviation of 9.3.
    rows, items = sample_negatives(
        np.full(1000, 7),
        np.repeat([1, 2], [10_000, 1]),
        known_users=np.asarray([7]),
        known_items=np.asarray([1]),
        ratio=1,
    )
    assert 60 < len(rows) < 130
    assert (np.diff(rows) > 0).all()
    assert set(items.tolist()) == {2}


def test_wide_ids_do_not_collide():
    # As one number, user and item would need 124 bits.
    users = np.asarray([2**62, 2**62 + 1])
    training_items = np.asarray([2**61, -5])
    rows, items = sample_negatives(
        users, training_items, known_users=users, known_items=training_items, ratio=1
    )
    assert (rows.tolist(), items.tolist()) == ([0, 1], [-5, 2**61])


@pytest.mark.parametrize("change", [{"ratio": 0}, {"seed": -1}])
def test_refuses_numbers_that_are_too_small(change):
    received = {"ratio": 4, "seed": 0} | change
    message = (
        "expected ratio of at least 1 and seed of at least 0; "
        f"received {received['ratio']} and {received['seed']}"
    )
    users = np.asarray([7])
    with pytest.raises(DatasetError, match=message):
        sample_negatives(users, users, known_users=users, known_items=users, **change)


def test_needs_training_positives():
    users = np.asarray([7])
    with pytest.raises(DatasetError, match="popularity of training positives; received none: move"):
        sample_negatives(users, users[:0], known_users=users, known_items=users)
