import numpy as np
import pytest

from tfmtl.cli.request_rows import read_rows


def rows(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return read_rows(folder / name)


def test_csv(tmp_path):
    received = rows(tmp_path, "a.csv", "user_id,price,tab\n7,1.5,home\n9,,\n")
    assert received["user_id"].dtype == np.int64
    assert received["user_id"].tolist() == [7, 9]
    np.testing.assert_array_equal(received["price"], [1.5, np.nan])
    assert received["tab"].tolist() == ["home", ""]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_json_lines(name, tmp_path):
    text = '{"u": 1, "seen": [4, 5], "s": "a"}\n{"u": null, "seen": [6, 7], "s": null}\n'
    received = rows(tmp_path, name, text)
    np.testing.assert_array_equal(received["u"], [1, np.nan])
    assert received["seen"].tolist() == [[4, 5], [6, 7]]
    assert received["s"].tolist() == ["a", ""]


def test_a_column_without_any_value(tmp_path):
    received = rows(tmp_path, "a.csv", "user_id,price\n7,\n9,\n")
    np.testing.assert_array_equal(received["price"], [np.nan, np.nan])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "x", r"expected a file ending in \['.csv', '.json', '.jsonl'\]; received a.txt"),
        ("a.csv", "", r"cannot read .*a.csv: Empty CSV file"),
        ("a.csv", "user_id\n", r"a.csv has no rows to score"),
        ("a.jsonl", '{"u": 1}\n{"u"', r"cannot read .*a.jsonl: JSON parse error"),
        ("a.jsonl", '{"l": [1, 2]}\n{"l": [3]}\n', r"'l' holds lists of \[2, 1\] values; expected"),
    ],
)
def test_files_that_cannot_be_asked(name, text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        rows(tmp_path, name, text)


def test_an_absent_file(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*none.csv: .*No such file"):
        read_rows(tmp_path / "none.csv")
