import pytest

from tests.datasets.shop_release import pairs_of, write_release
from tfmtl.datasets import DatasetError, fetch, load
from tfmtl.datasets.taobao import SCHEMA, load_taobao

_START = 1_511_539_200
_NUM_PAIRS = 40
# Pair k, of user k % 8 and item k % 5 + 10 * (k % 2), has its last behaviour at k hours; every
# third pair has two.
_BEHAVIORS = ("fav", "cart", "buy")
_POSITIVES = [(number % 8, number % 5 + 10 * (number % 2)) for number in range(_NUM_PAIRS)]
# The first pair of the validation part and the first of the test part have new items.
_POSITIVES[32], _POSITIVES[36] = (0, 98), (4, 99)
_HELD_OUT = [(0, 10), (1, 1), (7, 3)]


def _time(number):
    return _START + 3600 * number


def _edges():
    edges = []
    for number, pair in enumerate(_POSITIVES):
        edges.append((*pair, _time(number), _BEHAVIORS[number % 3]))
        if number % 3 == 2:
            edges.append((*pair, _time(number) - 100, "fav"))
    return edges


@pytest.fixture
def home(tmp_path):
    write_release(tmp_path / "taobao", _edges(), _HELD_OUT)
    return tmp_path


def _positives(log):
    is_positive = sum(log.labels(name) for name in _BEHAVIORS) > 0
    return log.select(is_positive), log.select(~is_positive)


def test_fixture_pairs_are_distinct():
    assert len(set(_POSITIVES)) == _NUM_PAIRS
    assert not set(_POSITIVES) & set(_HELD_OUT)


def test_tasks_are_ordered_and_labels_add_up(home):
    loaded = load("taobao", home)
    assert [(task.name, task.order) for task in loaded.log.schema.tasks] == [
        ("fav", 0),
        ("cart", 0),
        ("buy", 1),
    ]
    assert loaded.history is None
    positives, _ = _positives(loaded.log)
    assert pairs_of(positives) == _POSITIVES
    assert positives.times.tolist() == [_time(number) for number in range(_NUM_PAIRS)]
    labels = [[int(number % 3 == kind) for number in range(_NUM_PAIRS)] for kind in range(3)]
    labels[0] = [int(number % 3 != 1) for number in range(_NUM_PAIRS)]
    assert [positives.labels(name).tolist() for name in _BEHAVIORS] == labels


def test_the_newest_tenths_are_test_and_validation_with_their_negatives(home):
    split = load("taobao", home).split
    for part, numbers in (
        (split.train, range(32)),
        (split.validation, range(32, 36)),
        (split.test, range(36, 40)),
    ):
        positives, negatives = _positives(part)
        assert pairs_of(positives) == [_POSITIVES[number] for number in numbers]
        users_and_times = [(_POSITIVES[number][0], _time(number)) for number in numbers]
        received = zip(negatives.user_ids.tolist(), negatives.times.tolist(), strict=True)
        assert list(received) == [pair for pair in users_and_times for _ in range(4)]


def test_no_negative_is_a_positive_of_any_part_or_held_out(home):
    for seed in range(20):
        _, negatives = _positives(load_taobao(home, ratio=8, seed=seed).log)
        assert not set(pairs_of(negatives)) & {*_POSITIVES, *_HELD_OUT}


def test_items_of_later_parts_alone_are_no_negatives(home):
    _, negatives = _positives(load_taobao(home, ratio=50).log)
    assert set(negatives.item_ids.tolist()) == {item for _, item in _POSITIVES[:32]}


def test_ratio_and_seed_are_options(home):
    one, again, other = (load("taobao", home, ratio=2, seed=seed).log for seed in (1, 1, 2))
    assert len(one) == 3 * _NUM_PAIRS
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()
    message = "expected ratio of at least 1 and seed of at least 0; received 2 and -1"
    with pytest.raises(DatasetError, match=message):
        load("taobao", home, ratio=2, seed=-1)


def test_there_are_no_features():
    assert not SCHEMA.features


def test_says_what_is_missing(home, tmp_path):
    assert fetch("taobao", home) == home / "taobao"
    with pytest.raises(DatasetError, match=r"no complete copy of taobao under .*elsewhere"):
        fetch("taobao", tmp_path / "elsewhere")


def test_the_folder_of_another_log_is_refused(tmp_path):
    folder = write_release(tmp_path, [(1, 2, 1_447_171_200, name) for name in _BEHAVIORS], [(1, 3)])
    message = "expected times from 1511539200 until before 1512316800; received 1447171200 to"
    with pytest.raises(DatasetError, match=message):
        load_taobao(folder)
