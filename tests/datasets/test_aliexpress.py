import re

import numpy as np
import pytest

from tfmtl.data.interaction_log import HeldOutLog, TrainingLog
from tfmtl.datasets import DatasetError, fetch, load
from tfmtl.datasets.aliexpress import fetch_aliexpress, load_aliexpress

# The columns of the official files as the protocol's script counts them, from 1.
_USER_CATEGORICAL = (*range(2, 9), 32, 33)
_ITEM_CATEGORICAL = (19, 34, 35, 36, 40, 41, 42)
# Item rows (search id, number, label): pages 7 and 5, the second one listed first in the user file.
_ITEMS = [(7, 1, 0), (5, 2, 2), (7, 3, 1), (5, 4, 0), (5, 5, 1)]
_PAGES = (5, 7)


def _value(table: str, number: int, column: int) -> str:
    """A whole number in categorical columns, else a fraction that names its row and column."""
    categorical = _USER_CATEGORICAL if table == "user" else _ITEM_CATEGORICAL
    return str(10 * number + column) if column in categorical else f"{number}.{column:02d}"


def _user_line(search_id: int) -> str:
    return ",".join(
        [str(search_id), *(_value("user", search_id, column) for column in range(2, 34))]
    )


def _item_line(search_id: int, number: int, label: int | str) -> str:
    values = (_value("item", number, column) for column in range(2, 49))
    return ",".join([str(search_id), *values, str(label)])


def _write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _write_official(folder, country="nl", items=_ITEMS, pages=_PAGES):
    for part in ("train", "test"):
        _write(folder / f"{country}_user_{part}.csv", [_user_line(page) for page in pages])
        _write(folder / f"{country}_item_{part}.csv", [_item_line(*item) for item in items])


def _write_prepared(folder, train_rows=10, test_rows=3, shift=0, **labels):
    """Row r has r + shift in every categorical column and r / 64 in every numerical one."""
    names = [*(f"categorical_{n}" for n in range(1, 17)), *(f"numerical_{n}" for n in range(1, 64))]
    header = ",".join(["search_id", *names, "click", "conversion"])
    for part, count in (("train", train_rows), ("test", test_rows)):
        lines = [header]
        for row in range(count):
            click = labels.get("click", int(row % 2 == 0))
            conversion = labels.get("conversion", int(row % 4 == 0))
            values = [*[row + shift] * 16, *[row / 64] * 63, click, conversion]
            lines.append(",".join(map(str, [900 + row, *values])))
        _write(folder / f"{part}.csv", lines)


@pytest.fixture
def official(tmp_path):
    _write_official(tmp_path / "aliexpress" / "AliExpress_NL")
    return tmp_path


@pytest.fixture
def prepared(tmp_path):
    _write_prepared(tmp_path / "AliExpress_NL")
    return tmp_path


def test_official_files_are_joined_on_the_search_id(official):
    dataset = load_aliexpress(official, validation=0.2)
    rows = dataset.log.rows
    # As in the protocol's join, pages follow the user file (5, 7) and items of a page the item
    # file: items 2, 4, 5 of page 5, then 1, 3 of page 7. Their labels are 2, 0, 1, 0, 1.
    assert rows["click"].to_pylist()[:5] == [1, 0, 1, 0, 1]
    assert rows["conversion"].to_pylist()[:5] == [1, 0, 0, 0, 0]
    # User column 2 is categorical 1: 10 * page + 2. Item column 2, a number, follows the 23 of the
    # user file, columns 9 to 31, as numerical 24: item.02.
    assert rows["categorical_1"].to_pylist()[:5] == [52, 52, 52, 72, 72]
    np.testing.assert_allclose(
        rows["numerical_24"].to_numpy()[:5], [2.02, 4.02, 5.02, 1.02, 3.02], rtol=1e-6
    )


def test_official_columns_become_16_categorical_and_63_numerical_features(official):
    log = load_aliexpress(official, validation=0.2).split.train
    first = {name: log.rows[name][0].as_py() for name in log.rows.column_names}
    # The first row is item 2 on page 5. Names count the user's columns first, then the item's.
    expected = [_value("user", 5, column) for column in _USER_CATEGORICAL]
    expected += [_value("item", 2, column) for column in _ITEM_CATEGORICAL]
    assert [first[f"categorical_{n}"] for n in range(1, 17)] == [int(value) for value in expected]
    numbers = [_value("user", 5, column) for column in range(9, 32)]
    numbers += [_value("item", 2, c) for c in range(2, 49) if c not in _ITEM_CATEGORICAL]
    np.testing.assert_allclose(
        [first[f"numerical_{n}"] for n in range(1, 64)], [float(value) for value in numbers]
    )
    kinds = [feature.kind for feature in log.schema.features if feature.name != "country"]
    assert (kinds.count("categorical"), kinds.count("numeric")) == (16, 63)
    assert not {"search_id", "label"} & set(log.rows.column_names)


def test_items_in_the_order_of_their_pages_are_the_same_join(official, tmp_path):
    # The five items sorted as the join sorts them: nothing is left to move.
    ordered = [_ITEMS[n] for n in (1, 3, 4, 0, 2)]
    _write_official(tmp_path / "sorted" / "AliExpress_NL", items=ordered)
    one, other = (load_aliexpress(home, validation=0.2) for home in (official, tmp_path / "sorted"))
    assert one.split.train.fingerprint() == other.split.train.fingerprint()


def test_items_without_their_page_are_left_out_and_counted(official):
    folder = official / "aliexpress" / "AliExpress_NL"
    _write(folder / "nl_user_test.csv", [_user_line(7)])
    message = r"nl_item_test\.csv: left out 3 of 5 rows, whose search ids are not in .*nl_user_test"
    with pytest.warns(UserWarning, match=message):
        split = load_aliexpress(official, validation=0.2).split
    assert split.test.rows["categorical_1"].to_pylist() == [72, 72]
    _write(folder / "nl_user_test.csv", [_user_line(8)])
    with pytest.raises(DatasetError, match=r"no search id of it is in .*take both files from one"):
        load_aliexpress(official, validation=0.2)


def test_the_last_rows_of_training_are_the_validation_part(prepared):
    split = load_aliexpress(prepared, validation=0.25).split
    assert [type(part) for part in (split.train, split.validation, split.test)] == [
        TrainingLog,
        HeldOutLog,
        HeldOutLog,
    ]
    # A quarter of 10 rows, rounded down, is 2.
    assert split.train.rows["categorical_3"].to_pylist() == list(range(8))
    assert split.validation.rows["categorical_3"].to_pylist() == [8, 9]
    assert split.test.rows["categorical_3"].to_pylist() == [0, 1, 2]
    assert len(load_aliexpress(prepared).split.validation) == 1


def test_both_tasks_are_defined_on_all_rows(prepared):
    log = load("aliexpress", prepared).log
    assert log.schema.task_names == ("click", "conversion")
    assert not log.schema.has_ids
    np.testing.assert_array_equal(log.labels("click")[:5], [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(log.labels("conversion")[:5], [1, 0, 0, 0, 1])
    np.testing.assert_allclose(log.rows["numerical_63"].to_numpy()[:3], [0, 1 / 64, 2 / 64])


def test_countries_follow_one_another_in_each_part(prepared):
    _write_prepared(prepared / "aliexpress" / "AliExpress_ES", train_rows=20, shift=100)
    split = load_aliexpress(prepared, country=["nl", "es"]).split
    assert split.train.rows["country"].to_pylist() == ["nl"] * 9 + ["es"] * 18
    assert split.validation.rows["country"].to_pylist() == ["nl", "es", "es"]
    assert split.validation.rows["categorical_1"].to_pylist() == [9, 118, 119]
    assert split.test.select(np.array([5, 0])).rows["country"].to_pylist() == ["es", "nl"]
    assert load_aliexpress(prepared, country="es").log.rows["country"].unique().to_pylist() == [
        "es"
    ]


def test_a_copy_is_found_in_the_data_home_or_in_its_own_folder(prepared):
    own = prepared / "AliExpress_NL"
    assert fetch("aliexpress", prepared) == prepared
    assert fetch_aliexpress(own) == own
    assert len(load_aliexpress(own).log) == 13
    _write_official(prepared / "plain", "fr")
    assert len(load_aliexpress(prepared / "plain", country="fr", validation=0.2).log) == 10


def test_prepared_files_count_for_the_country_of_their_folder_alone(prepared):
    message = (
        r"no complete copy of aliexpress, country 'us', in .*expected aliexpress/AliExpress_US/ "
        r"with us_user_train\.csv, .*aliexpress_US_datasets\.zip from https://tianchi"
    )
    for home in (prepared, prepared / "AliExpress_NL"):
        with pytest.raises(DatasetError, match=message):
            load_aliexpress(home, country=["nl", "us"])


def test_a_missing_file_says_what_to_put_where(official):
    (official / "aliexpress" / "AliExpress_NL" / "nl_item_test.csv").unlink()
    for call in (fetch_aliexpress, load_aliexpress):
        with pytest.raises(DatasetError, match=r"no complete copy of aliexpress, country 'nl'"):
            call(official)


@pytest.mark.parametrize("label", [3, ""])
def test_a_malformed_official_label_is_named(official, label):
    path = official / "aliexpress" / "AliExpress_NL" / "nl_item_train.csv"
    _write(path, [_item_line(5, 1, 0), _item_line(5, 2, label), _item_line(7, 3, label)])
    message = (
        r"nl_item_train\.csv: expected the column 'label' to be one of \[0, 1, 2\]; received "
        rf"{label or None} in row 2 and 1 malformed values after it"
    )
    with pytest.raises(DatasetError, match=message):
        load_aliexpress(official)


def test_malformed_prepared_labels_are_named(prepared):
    _write_prepared(prepared / "AliExpress_NL", click=2)
    with pytest.raises(DatasetError, match=r"train\.csv: expected the column 'click' to be one of"):
        load_aliexpress(prepared)
    _write_prepared(prepared / "AliExpress_NL", click=0, conversion=1)
    message = r"expected conversion to imply click; received 10 of 10 rows with conversion 1"
    with pytest.raises(DatasetError, match=message):
        load_aliexpress(prepared)


def test_unreadable_files_are_named(official, prepared):
    official_file = official / "aliexpress" / "AliExpress_NL" / "nl_user_train.csv"
    prepared_file = prepared / "AliExpress_NL" / "train.csv"
    lines = prepared_file.read_text().splitlines()
    cases = [
        ([_user_line(5), _user_line(7).rsplit(",", 1)[0]], r"Expected 33 columns, got 32"),
        (
            [re.sub("52", "5.5", _user_line(5), count=1)],
            r"column #1: .*int32: invalid value '5\.5'",
        ),
        ([], "Empty CSV file"),
    ]
    # With the prepared files away, the official ones of the same country are read.
    for part in ("train", "test"):
        (prepared / "AliExpress_NL" / f"{part}.csv").rename(prepared / f"kept_{part}.csv")
    for broken, reason in cases:
        _write(official_file, broken)
        with pytest.raises(DatasetError, match=rf"cannot read .*nl_user_train\.csv: .*{reason}"):
            load_aliexpress(official)
    for part in ("train", "test"):
        (prepared / f"kept_{part}.csv").rename(prepared / "AliExpress_NL" / f"{part}.csv")
    for broken, reason in [
        ([lines[0].replace("numerical_7,", "other,", 1), *lines[1:]], "numerical_7"),
        ([lines[0], lines[1].rsplit(",", 1)[0]], "Expected 82 columns, got 81"),
        ([], "Empty CSV file"),
    ]:
        _write(prepared_file, broken)
        with pytest.raises(DatasetError, match=rf"cannot read .*train\.csv: .*{reason}"):
            load_aliexpress(prepared)
    _write(prepared_file, lines[:1])
    with pytest.raises(DatasetError, match=r"train\.csv: expected rows; received a header alone"):
        load_aliexpress(prepared)


def test_options_out_of_range_are_named(prepared):
    for country in ("ru", [], ["nl", "nl"], ["nl", "NL"]):
        message = r"expected country to be one of \['nl', 'es', 'fr', 'us'\], or a list of distinct"
        with pytest.raises(DatasetError, match=message):
            load_aliexpress(prepared, country=country)
    for validation in (0, 1.0):
        with pytest.raises(DatasetError, match="expected 0 < validation < 1; received"):
            load_aliexpress(prepared, validation=validation)
    with pytest.raises(DatasetError, match=r"0\.05 of 10 training rows are none to validate on"):
        load_aliexpress(prepared, validation=0.05)
