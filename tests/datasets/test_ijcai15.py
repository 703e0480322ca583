import datetime

import pytest

from tests.datasets.shop_release import pairs_of, write_release
from tfmtl.datasets import DatasetError, fetch, load
from tfmtl.datasets.ijcai15 import load_ijcai15

_CHINA = datetime.timezone(datetime.timedelta(hours=8))


def _day(month, day):
    return int(datetime.datetime(2015, month, day, tzinfo=_CHINA).timestamp())


# Three items for each of thirteen users, one user a day: 30 pairs in October, then three each on
# 1, 10 and 11 November.
_DAYS = [*(_day(10, day) for day in range(1, 11)), _day(11, 1), _day(11, 10), _day(11, 11)]
_EDGES = [
    (user, (user + step) % 13, time, "buy" if step == 1 else "fav")
    for user, time in enumerate(_DAYS)
    for step in range(3)
]
# Item 0 was put in the cart by users 1 to 5, and bought as well by user 2.
_CARTS = [(user, 0, _day(10, 20), "cart") for user in range(1, 6)]
_BOUGHT_ON_THE_LAST_DAY = (2, 2, _day(11, 11), "buy")
_HELD_OUT = [(6, 1), (9, 1)]


@pytest.fixture
def home(tmp_path):
    edges = [*_EDGES, *_CARTS, _BOUGHT_ON_THE_LAST_DAY, (2, 0, _day(10, 3), "buy")]
    write_release(tmp_path / "ijcai15", edges, _HELD_OUT)
    return tmp_path


def _by_label(log):
    is_positive = log.labels("fav") + log.labels("buy") > 0
    return log.select(is_positive), log.select(~is_positive)


def test_tasks_are_favourite_and_purchase(home):
    loaded = load("ijcai15", home)
    tasks = [(task.name, task.order) for task in loaded.log.schema.tasks]
    assert tasks == [("fav", 0), ("buy", 1)]
    assert loaded.history is None
    assert loaded.log.schema.features == ()
    positives, negatives = _by_label(loaded.log)
    assert set(pairs_of(positives)) == {(user, item) for user, item, *_ in _EDGES} | {(2, 0)}
    assert len(negatives) == 4 * len(positives) == 4 * 40


def test_the_sale_is_the_test_and_whole_days_before_it_the_validation(home):
    split = load("ijcai15", home).split
    times = [set(part.times.tolist()) for part in (split.train, split.validation, split.test)]
    # 36 pairs lie before the last day, of which the newest tenth, four, reaches into 1 November.
    assert times == [set(_DAYS[:10]), set(_DAYS[10:12]), {_DAYS[12]}]
    assert len(_by_label(split.validation)[0]) == 6


def test_a_pair_belongs_to_the_day_of_its_latest_behaviour(home):
    positives, _ = _by_label(load("ijcai15", home).split.test)
    labels = zip(positives.labels("fav").tolist(), positives.labels("buy").tolist(), strict=True)
    rows = dict(zip(pairs_of(positives), labels, strict=True))
    assert rows == {(12, 12): (1, 0), (12, 0): (0, 1), (12, 1): (1, 0), (2, 2): (1, 1)}


def test_carts_and_held_out_pairs_are_neither_rows_nor_negatives(home):
    left_out = {(1, 0), (3, 0), (4, 0), (5, 0), *_HELD_OUT}
    for seed in range(20):
        assert not set(pairs_of(load_ijcai15(home, seed=seed).log)) & left_out


def test_items_of_later_parts_alone_are_no_negatives(home):
    # Item 12 is first met on 1 November, by user 10.
    _, negatives = _by_label(load_ijcai15(home, ratio=50).log)
    assert set(negatives.item_ids.tolist()) == set(range(12))


def test_seed_and_ratio_are_options(home):
    one, again, other = (load("ijcai15", home, ratio=1, seed=seed).log for seed in (1, 1, 2))
    assert len(one) == 2 * 40
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()


def test_says_what_is_missing(home, tmp_path):
    assert fetch("ijcai15", home) == home / "ijcai15"
    with pytest.raises(DatasetError, match=r"no complete copy of ijcai15 under .*elsewhere"):
        fetch("ijcai15", tmp_path / "elsewhere")


def test_the_folder_of_another_log_is_refused(tmp_path):
    edges = [(1, 2, 1_511_539_200, "fav"), (1, 2, 1_511_539_300, "buy")]
    message = "expected times from 1431273600 until before 1447257600; received 1511539200 to"
    with pytest.raises(DatasetError, match=message):
        load_ijcai15(write_release(tmp_path, edges, [(1, 3)]))
