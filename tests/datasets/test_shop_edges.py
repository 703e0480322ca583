import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.datasets.shop_release import pairs_of, write_release
from tfmtl.datasets import DatasetError
from tfmtl.datasets.shop_edges import ShopEdges
from tfmtl.schema import Schema, Task

_SCHEMA = Schema(time="time", tasks=(Task(name="fav"), Task(name="buy", order=1)))
_EDGES = [
    (2, 50, 130, "buy"),
    (1, 50, 110, "fav"),
    (1, 60, 120, "buy"),
    (1, 50, 140, "buy"),  # pair (1, 50) again, later
    (3, 70, 130, "fav"),
    (2, 60, 105, "cart"),  # no task
    (3, 50, 130, "fav"),
    (2, 50, 125, "cart"),
]
_HELD_OUT = [(1, 70), (2, 80)]


@pytest.fixture
def folder(tmp_path):
    return write_release(tmp_path / "shop", _EDGES, _HELD_OUT)


def _read(folder, first=100, until=200):
    return ShopEdges.read(folder, _SCHEMA, first, until)


def test_a_pair_has_one_row_with_all_behaviours_at_the_time_of_the_latest(folder):
    edges = _read(folder)
    # In time order, then by user and item; the cart at 125 is not a behaviour of the schema.
    assert edges.pairs.to_pydict() == {
        "user_id": [1, 2, 3, 3, 1],
        "item_id": [60, 50, 50, 70, 50],
        "time": [120, 130, 130, 130, 140],
        "fav": [0, 0, 1, 1, 1],
        "buy": [1, 1, 0, 0, 1],
    }


def test_other_behaviours_and_held_out_pairs_are_known(folder):
    known = _read(folder).known.to_pydict()
    pairs = set(zip(known["user_id"], known["item_id"], strict=True))
    assert pairs == {(1, 50), (1, 60), (2, 50), (2, 60), (3, 50), (3, 70), (1, 70), (2, 80)}


@pytest.mark.parametrize(
    ("share", "before", "time"),
    [(0.2, None, 140), (0.4, None, 130), (0.8, None, 130), (1, None, 120), (0.01, 140, 130)],
)
def test_newest_pairs_start_at_a_time_and_ties_stay_together(folder, share, before, time):
    assert _read(folder).newest_from(share, before) == time


def test_negatives_follow_their_pair_and_take_over_its_user_and_time(folder):
    edges = _read(folder)
    # Items 50, 60 and 70 have pairs before 135. User 2 knows 50 and, by its cart, 60; user 3 knows
    # 50 and 70; user 1 knows 50, 60 and, as a held-out pair, 70, and so has no negatives.
    log = edges.with_negatives(training_before=135, ratio=2, seed=0)
    assert pairs_of(log) == [
        (1, 60),
        *[(2, 50), (2, 70), (2, 70)],
        *[(3, 50), (3, 60), (3, 60)],
        *[(3, 70), (3, 60), (3, 60)],
        (1, 50),
    ]
    assert log.times.tolist() == [120, *[130] * 9, 140]
    np.testing.assert_array_equal(log.labels("fav"), [0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(log.labels("buy"), [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1])


def test_items_first_met_after_the_training_part_are_no_negatives(folder):
    # Before 130 there is only the pair (1, 60), and users 1 and 2 know item 60.
    log = _read(folder).with_negatives(training_before=130, ratio=1, seed=0)
    assert set(pairs_of(log)) - {(1, 60), (2, 50), (3, 50), (3, 70), (1, 50)} == {(3, 60)}


def test_the_order_of_the_file_does_not_matter(folder, tmp_path):
    def fingerprint(of):
        return _read(of).with_negatives(training_before=135, ratio=4, seed=1).fingerprint()

    reverse = write_release(tmp_path / "reverse", _EDGES[::-1], _HELD_OUT[::-1])
    assert fingerprint(folder) == fingerprint(reverse)


def test_finds_the_folder_or_says_what_to_put_where(folder):
    assert ShopEdges.find("shop", folder.parent) == folder
    assert ShopEdges.find("shop", folder) == folder
    (folder / "test_target_edges.parquet").unlink()
    message = (
        r"no complete copy of shop under .*: expected shop/edges_train\.parquet with the columns "
        r"\['user', 'item', 'ts', 'behavior'\].* and shop/test_target_edges\.parquet with "
        r"\['user', 'item'\]"
    )
    with pytest.raises(DatasetError, match=message):
        ShopEdges.find("shop", folder.parent)


@pytest.mark.parametrize(
    ("file", "column"), [("edges_train", "behavior"), ("test_target_edges", "item")]
)
def test_missing_column_names_the_file(folder, file, column):
    path = folder / f"{file}.parquet"
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with pytest.raises(DatasetError, match=rf"{file}\.parquet: expected the columns \['{column}'"):
        _read(folder)


def test_missing_behaviour_is_named(tmp_path):
    folder = write_release(tmp_path, [(1, 50, 110, "buy"), (1, 60, 120, "favourite")], _HELD_OUT)
    message = (
        r"expected the behaviours \['fav'\] in the column 'behavior'; received "
        r"\['buy', 'favourite'\]: replace the file"
    )
    with pytest.raises(DatasetError, match=message):
        _read(folder)


@pytest.mark.parametrize(("first", "until"), [(106, 200), (100, 140)])
def test_times_of_another_log_are_refused(folder, first, until):
    message = (
        f"expected times from {first} until before {until}; received 105 to 140: give the folder"
    )
    with pytest.raises(DatasetError, match=message):
        _read(folder, first, until)
    assert _read(folder, 105, 141).pairs.num_rows == 5


def test_nothing_before_a_time_cannot_be_cut(folder):
    with pytest.raises(DatasetError, match="expected pairs before 120 to cut by time; received"):
        _read(folder).newest_from(0.1, before=120)
