import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfmtl.datasets import DatasetError, fetch, load
from tfmtl.datasets.tmall import load_tmall

NUM_PAIRS = 60


@pytest.fixture
def home(tmp_path):
    numbers = range(NUM_PAIRS)
    pairs = {
        "user": [number // 6 for number in numbers],
        "item": [number % 6 for number in numbers],
        "click": [int(number % 4 != 0) for number in numbers],
        "collect": [int(number % 3 == 0) for number in numbers],
        "cart": [0] * NUM_PAIRS,
        "buy": [int(number % 5 == 0) for number in numbers],
    }
    (tmp_path / "tmall").mkdir()
    pq.write_table(pa.table(pairs), tmp_path / "tmall" / "pairs.parquet")
    return tmp_path


def test_clicked_pairs_alone_are_rows(home):
    loaded = load("tmall", home)
    assert len(loaded.log) == 45
    assert loaded.log.schema.task_names == ("collect", "buy")
    assert "click" not in loaded.log.rows.column_names
    for user, item, collect, buy in zip(
        *(loaded.log.rows[name].to_pylist() for name in ("user_id", "item_id", "collect", "buy")),
        strict=True,
    ):
        number = 6 * user + item
        assert number % 4 != 0
        assert (collect, buy) == (int(number % 3 == 0), int(number % 5 == 0))


def test_the_split_is_random_and_repeats_with_its_seed(home):
    def pairs(log):
        rows = log.rows
        return set(zip(rows["user_id"].to_pylist(), rows["item_id"].to_pylist(), strict=True))

    one, again, other = (load_tmall(home, seed=seed).split for seed in (1, 1, 2))
    parts = [pairs(part) for part in (one.train, one.validation, one.test)]
    assert [len(part) for part in parts] == [37, 4, 4]
    assert len(set.union(*parts)) == 45
    assert pairs(again.test) == pairs(one.test) != pairs(other.test)


def test_says_what_is_missing(home, tmp_path):
    assert fetch("tmall", home) == home / "tmall"
    with pytest.raises(DatasetError, match=r"no Tmall pairs under .*: expected tmall/pairs\.parq"):
        fetch("tmall", tmp_path / "elsewhere")
    pq.write_table(pa.table({"user": [1], "item": [2]}), home / "tmall" / "pairs.parquet")
    with pytest.raises(DatasetError, match=r"expected the columns \['click', 'collect', 'buy'\]"):
        load("tmall", home)
