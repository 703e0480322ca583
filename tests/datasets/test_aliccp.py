import warnings

import numpy as np
import pytest

from tfmtl.data.interaction_log import HeldOutLog, TrainingLog
from tfmtl.datasets import DatasetError, aliccp, fetch, load
from tfmtl.datasets.aliccp import fetch_aliccp, load_aliccp

Features = list[tuple[str, int, float]]


def _features(features: Features) -> str:
    return "\x01".join(f"{field}\x02{number}\x03{weight}" for field, number, weight in features)


def _impression(sample: int, click: int, conversion: int, common: str, features: Features) -> str:
    return f"{sample},{click},{conversion},{common},{len(features)},{_features(features)}"


def _user(common: str, features: Features) -> str:
    return f"{common},{len(features)},{_features(features)}"


def _write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))


# Two index rows of one user, 71, who has a second gender there, and one of user 72 with no history.
_USERS = [
    _user("aa01", [("101", 71, 1.0), ("124", 3, 1.0), ("109_14", 8, 0.7), ("109_14", 9, 2.1)]),
    _user("bb02", [("101", 71, 1.0), ("124", 3, 1.0), ("124", 4, 1.0), ("150_14", 5, 1.0)]),
    _user("cc03", [("101", 72, 1.0), ("129", 6, 1.0), ("999", 1, 1.0)]),
]
# (click, conversion, index, item); the fourth of them was bought without a click.
_TRAIN = [(1, 0, "cc03", 50), (0, 0, "aa01", 51), (1, 1, "bb02", 52), (0, 1, "aa01", 53)]
_TRAIN += [(0, 0, "cc03", 54), (1, 0, "aa01", 55)]


def _train_lines() -> list[str]:
    return [
        _impression(
            number,
            click,
            conversion,
            common,
            [("205", item, 1.0), ("206", item + 100, 1.0), ("508", item + 200, 2.3), ("210", 7, 1)],
        )
        for number, (click, conversion, common, item) in enumerate(_TRAIN, 1)
    ]


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "ali-ccp"
    home.mkdir()
    _write(home / "common_features_train.csv", _USERS)
    _write(home / "sample_skeleton_train.csv", _train_lines())
    _write(home / "common_features_test.csv", [_user("dd04", [("101", 73, 1.0)])])
    _write(
        home / "sample_skeleton_test.csv",
        [
            _impression(1, 0, 0, "dd04", [("205", 60, 1.0), ("301", 2, 1.0)]),
            _impression(2, 1, 1, "dd04", [("205", 61, 1.0)]),
        ],
    )
    return home


@pytest.fixture(autouse=True)
def _noise_is_expected():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*with a conversion but no click")
        yield


def test_impressions_are_joined_with_the_features_of_their_index(folder):
    rows = load_aliccp(folder, validation=0.4).log.rows
    # Five of six training rows are kept, then the two of the test.
    assert rows["user_id"].to_pylist() == [72, 71, 71, 72, 71, 73, 73]
    assert rows["item_id"].to_pylist() == [50, 51, 52, 54, 55, 60, 61]
    assert rows["item_206"].to_pylist() == [150, 151, 152, 154, 155, None, None]
    assert rows["combination_508"].to_pylist() == [250, 251, 252, 254, 255, None, None]
    assert rows["context_301"].to_pylist() == [None] * 5 + [2, None]
    # Features belong to the index, not to the user: 71 has gender 3 under aa01. Under bb02 it is
    # given twice, and the last one counts.
    assert rows["user_124"].to_pylist() == [None, 3, 4, None, 3, None, None]
    assert rows["user_129"].to_pylist() == [6, None, None, 6, None, None, None]


def test_fields_of_history_are_sets_of_their_last_ids(folder):
    log = load_aliccp(folder, validation=0.4).log
    assert log.rows["user_109_14"].to_pylist() == [[], [8, 9], [], [], [8, 9], [], []]
    assert log.rows["user_150_14"].to_pylist() == [[], [], [5], [], [], [], []]
    kinds = {feature.name: feature.kind for feature in log.schema.features}
    assert {name for name, kind in kinds.items() if kind == "multi_categorical"} == {
        *("user_109_14", "user_110_14", "user_127_14", "user_150_14")
    }
    # 8 of the user, 4 of history, 3 of the item, 4 combinations and the context.
    assert len(kinds) == 20
    shorter = load_aliccp(folder, validation=0.4, max_length=1).log
    assert shorter.rows["user_109_14"].to_pylist() == [[], [9], [], [], [9], [], []]
    assert {f.max_length for f in shorter.schema.features if f.is_list} == {1}
    without = load_aliccp(folder, validation=0.4, max_length=0).log
    assert len(without.schema.features) == 16
    assert "user_109_14" not in without.rows.column_names


def test_conversions_without_a_click_are_left_out_and_counted(folder):
    message = r"sample_skeleton_train\.csv: left out 1 of 6 rows with a conversion but no click"
    with pytest.warns(UserWarning, match=message):
        log = load_aliccp(folder, validation=0.4).log
    assert 53 not in log.item_ids
    np.testing.assert_array_equal(log.labels("click"), [1, 0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(log.labels("purchase"), [0, 0, 1, 0, 0, 0, 1])


def test_purchase_may_be_defined_on_clicked_rows_alone(folder):
    log = load("ali-ccp", folder.parent, validation=0.4, conversion="cvr").log
    nan = np.nan
    np.testing.assert_array_equal(log.labels("purchase"), [0, nan, 1, nan, 0, nan, 1])


def test_the_last_rows_of_training_are_the_validation_part(folder):
    split = load_aliccp(folder, validation=0.5).split
    # Half of five rows, rounded down, is two.
    parts = (split.train, split.validation, split.test)
    assert [part.item_ids.tolist() for part in parts] == [[50, 51, 52], [54, 55], [60, 61]]
    assert [type(part) for part in parts] == [TrainingLog, HeldOutLog, HeldOutLog]


def test_max_rows_counts_lines_of_each_file(folder):
    # Four lines of training, of which the fourth is left out, and both of the test.
    split = load_aliccp(folder, validation=0.4, max_rows=4).split
    assert split.train.item_ids.tolist() == [50, 51]
    assert split.validation.item_ids.tolist() == [52]
    assert len(split.test) == 2
    assert len(load_aliccp(folder, validation=0.4, max_rows=3).log) == 5


@pytest.mark.parametrize("max_rows", [None, 4])
def test_blocks_do_not_change_what_is_read(folder, monkeypatch, max_rows):
    whole = load_aliccp(folder, validation=0.4, max_rows=max_rows)
    # Shorter than two lines, so that every line is a block of its own.
    monkeypatch.setattr(aliccp, "_BLOCK_BYTES", 80)
    in_blocks = load_aliccp(folder, validation=0.4, max_rows=max_rows)
    assert whole.log.fingerprint() == in_blocks.log.fingerprint()


def test_files_may_stay_in_the_folders_of_their_archives(folder):
    before = load_aliccp(folder, validation=0.4).log.fingerprint()
    for part in ("train", "test"):
        (folder / f"sample_{part}").mkdir()
        for stem in ("sample_skeleton", "common_features"):
            name = f"{stem}_{part}.csv"
            (folder / name).rename(folder / f"sample_{part}" / name)
    assert fetch("ali-ccp", folder.parent) == folder
    assert load_aliccp(folder, validation=0.4).log.fingerprint() == before


def test_a_missing_file_says_what_to_put_where(folder):
    (folder / "common_features_test.csv").unlink()
    message = (
        r"no complete copy of ali-ccp in .*expected ali-ccp/ with sample_skeleton_train\.csv, "
        r".*common_features_test\.csv\. Download .*tianchi\.aliyun\.com/dataset/408"
    )
    for call in (fetch_aliccp, load_aliccp):
        with pytest.raises(DatasetError, match=message):
            call(folder.parent)


def _broken(folder, name: str, lines: list[str], message: str):
    _write(folder / name, lines)
    with pytest.raises(DatasetError, match=message):
        load_aliccp(folder, validation=0.4)


def test_unreadable_files_are_named(folder):
    name = "sample_skeleton_train.csv"
    short = _train_lines()[0].rsplit(",", 1)[0]
    _broken(folder, name, [short], rf"cannot read .*{name}: .*Expected 6 columns, got 5")
    _broken(folder, name, [], rf"cannot read .*{name}: Empty CSV file; replace the file")
    _broken(folder, name, ["1,x,0,aa01,1,205\x025\x031.0"], rf"cannot read .*{name}: .*'x'")
    _write(folder / name, _train_lines())
    name = "common_features_train.csv"
    _broken(folder, name, ["aa01,1"], rf"cannot read .*{name}: .*Expected 3 columns, got 2")


@pytest.mark.parametrize("label", ["3", ""])
def test_a_malformed_label_is_named(folder, label):
    lines = [_train_lines()[0], _train_lines()[1].replace(",0,0,", f",0,{label},", 1)]
    message = (
        r"sample_skeleton_train\.csv: expected the column 'conversion' to be 0 or 1; received "
        rf"{label or None} in row 2: replace the file"
    )
    _broken(folder, "sample_skeleton_train.csv", lines, message)


def test_an_unknown_index_is_named(folder):
    lines = _train_lines()
    lines[4] = lines[4].replace("cc03", "zz09")
    message = (
        r"sample_skeleton_train\.csv: expected indices of the common features of this part; "
        r"received 'zz09' and 0 others that are not among them"
    )
    _broken(folder, "sample_skeleton_train.csv", lines, message)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("205\x025\x031.0\x01206:7:1", r"field \\x02 id \\x03 weight; received '206:7:1'"),
        ("205\x025", r"field \\x02 id \\x03 weight; received '5'"),
        ("205\x02x\x031.0", r"expected feature ids of at most 31 bits; .*'x'"),
        ("205\x024294967296\x031.0", r"expected feature ids of at most 31 bits; .*4294967296"),
        ("206\x027\x031.0", r"expected the item, field '205', in every row; received 1 rows"),
    ],
)
def test_malformed_features_are_named(folder, features, message):
    lines = [f"1,1,0,aa01,1,{features}"]
    name = "sample_skeleton_train.csv"
    _broken(folder, name, lines, rf"{name}: .*{message}")


def test_an_index_without_its_user_is_named(folder):
    lines = [*_USERS, _user("ee05", [("124", 3, 1.0)])]
    message = (
        r"common_features_train\.csv: expected the user, field '101', in every row; received 1"
    )
    _broken(folder, "common_features_train.csv", lines, message)


def test_a_part_of_noise_alone_is_named(folder):
    lines = [line.replace(",1,1,", ",0,1,") for line in _train_lines()[2:4]]
    message = r"expected rows with a click or no conversion; received none"
    _broken(folder, "sample_skeleton_train.csv", lines, message)


def test_options_out_of_range_are_named(folder):
    with pytest.raises(DatasetError, match="expected conversion to be 'ctcvr' or 'cvr'; received"):
        load_aliccp(folder, conversion="ctr")
    for options in ({"max_length": -1}, {"max_rows": 0}, {"validation": 0}, {"validation": 1}):
        with pytest.raises(DatasetError, match="expected max_length >= 0, max_rows >= 1 or None"):
            load_aliccp(folder, **options)
    with pytest.raises(DatasetError, match=r"0\.1 of 5 training rows are none to validate on"):
        load_aliccp(folder)
