import numpy as np
import pytest
from scipy.stats import rankdata

from tfmtl.datasets import BehaviorSimulator, DatasetError, simulate_log


def _auc(labels: np.ndarray, scores: np.ndarray) -> float:
    positive = labels == 1
    count = positive.sum()
    ranks = rankdata(scores)[positive].sum() - count * (count + 1) / 2
    return ranks / (count * (len(labels) - count))


def _rates(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    totals = np.bincount(keys, labels) + 10 * labels.mean()
    return (totals / (np.bincount(keys) + 10))[keys]


@pytest.fixture(scope="module")
def simulator():
    return BehaviorSimulator(num_users=400, num_items=300, num_rows=40_000, seed=5)


@pytest.fixture(scope="module")
def log(simulator):
    return simulator.log()


def test_same_seed_same_log(log):
    again = BehaviorSimulator(num_users=400, num_items=300, num_rows=40_000, seed=5).log()
    other = BehaviorSimulator(num_users=400, num_items=300, num_rows=40_000, seed=6).log()
    assert again.fingerprint() == log.fingerprint()
    assert other.fingerprint() != log.fingerprint()


def test_more_rows_do_not_change_who_the_users_are(log):
    longer = BehaviorSimulator(num_users=400, num_items=300, num_rows=100, seed=5).log()
    assert longer.users.equals(log.users)
    assert longer.items.equals(log.items)


def test_behaviours_are_a_chain_with_the_target_rates(log):
    click, like, purchase = (log.rows[name] for name in ("click", "like", "purchase"))
    has_click = np.array(click.to_pylist()) == 1
    has_like = np.array(like.to_pylist()) == 1
    np.testing.assert_array_equal(like.is_valid().to_numpy(), has_click)
    np.testing.assert_array_equal(purchase.is_valid().to_numpy(), has_like)
    rates = [np.nanmean(log.labels(task)) for task in log.schema.task_names]
    np.testing.assert_allclose(rates, [0.25, 0.3, 0.3], atol=0.02)


def test_labels_follow_the_true_probabilities(simulator, log):
    truth = simulator.probabilities(log.user_ids, log.item_ids, log.rows["position"].to_numpy())
    for task, probability in truth.items():
        labels = log.labels(task)
        is_defined = np.isfinite(labels)
        upper = probability[is_defined] > np.median(probability[is_defined])
        chosen, happened = probability[is_defined][upper], labels[is_defined][upper]
        deviation = np.sqrt((chosen * (1 - chosen)).sum()) / len(chosen)
        assert abs(happened.mean() - chosen.mean()) < 4 * deviation


def test_taste_ranks_better_than_popularity_and_features(simulator, log):
    truth = simulator.probabilities(log.user_ids, log.item_ids, log.rows["position"].to_numpy())
    clicks = log.labels("click")
    features = np.zeros(len(log), np.int64)
    for feature in log.schema.features:
        if feature.kind == "categorical" and feature.side != "context":
            codes = np.unique(log.column(feature).to_numpy(), return_inverse=True)[1]
            features = features * (codes.max() + 1) + codes
    true_auc = _auc(clicks, truth["click"])
    # Measured: 0.83 for the truth; 0.60 and 0.59 for the rates of items and feature cells, which
    # even count the very clicks that they rank.
    assert true_auc > 0.78
    assert true_auc > _auc(clicks, _rates(log.item_ids, clicks)) + 0.12
    assert true_auc > _auc(clicks, _rates(features, clicks)) + 0.12


def test_degrees_are_long_tailed(log):
    for ids in (log.user_ids, log.item_ids):
        degrees = np.sort(np.bincount(ids)[1:])[::-1]
        assert degrees[: len(degrees) // 10].sum() > 0.25 * len(log)
        assert degrees[0] > 5 * np.median(degrees)


def test_features_tell_about_taste_with_noise(log):
    topic_of = {}
    for title, category in zip(
        log.items["title"].to_pylist(), log.items["category"].to_pylist(), strict=True
    ):
        _, first, second = title.split()
        assert first != second
        for word in (first, second):
            topic_of.setdefault(word, []).append(category)
    agreement = [np.mean([c == max(set(cs), key=cs.count) for c in cs]) for cs in topic_of.values()]
    assert 0.6 < np.mean(agreement) < 0.95


def test_time_increases(log):
    assert (np.diff(log.times) > 0).all()


def test_simulate_log_splits_by_time():
    split = simulate_log(num_rows=1000, num_users=50, num_items=40, validation=0.2).split
    assert [len(part) for part in (split.train, split.validation, split.test)] == [700, 200, 100]
    assert split.train.times.max() < split.validation.times.min()
    assert split.validation.times.max() < split.test.times.min()


def test_one_user_one_item():
    assert len(BehaviorSimulator(num_users=1, num_items=1, num_rows=3).log()) == 3


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"num_users": 0}, "num_users of at least 1; received 0"),
        ({"like_rate": 1.0}, "like_rate between 0 and 1; received 1.0"),
        ({"exponent": -1}, "exponent of at least 0; received -1"),
        ({"test": 0.95}, r"validation \+ test < 1; received 0.1 and 0.95"),
        ({"num_rows": 4}, "num_rows for three parts; received 4"),
    ],
)
def test_bad_arguments(argument, message):
    with pytest.raises(DatasetError, match=message):
        simulate_log(**argument)


def test_blocks_are_exposures_of_the_same_shop():
    shop = BehaviorSimulator(num_users=40, num_items=30, num_rows=20_000)
    blocks = list(shop.blocks(block_rows=6_000))
    assert [len(users) for users, _, _ in blocks] == [6_000, 6_000, 6_000, 2_000]
    users, items, bits = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    assert [users.dtype, items.dtype, bits.dtype] == [np.int32, np.int32, np.uint8]
    log = shop.log()
    for ids, expected, size in ((users, log.user_ids, 40), (items, log.item_ids, 30)):
        shares = np.bincount(ids, minlength=size + 1) / 20_000
        expected_shares = np.bincount(expected, minlength=size + 1) / 20_000
        assert shares[0] == 0
        np.testing.assert_allclose(shares, expected_shares, atol=0.02)
    # A like needs a click and a purchase a like: 0, 1, 3 or 7.
    assert set(np.unique(bits)) == {0, 1, 3, 7}
    np.testing.assert_allclose((bits & 1).mean(), log.labels("click").mean(), atol=0.02)
    again = next(shop.blocks(block_rows=6_000))
    np.testing.assert_array_equal(again[1], blocks[0][1])
    assert not np.array_equal(blocks[0][1], blocks[1][1])
