import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfmtl.datasets import DatasetError
from tfmtl.datasets.table import load_table
from tfmtl.schema import Feature, Schema, SchemaError, Task

_SCHEMA = """
user: uid
item: sku
time: ts
title: name
tasks:
- name: click
- {name: rated, column: stars, positive: {operator: '>=', value: 4}}
features:
- {name: shop, side: context}
- {name: zip, side: user}
- {name: colours, kind: multi_categorical, side: item, separator: '|'}
- {name: price, kind: numeric, side: item, fill: 0}
"""
_LOG = """uid,sku,ts,click,stars,shop
7,a1,1,true,5,NA
7,b2,2,false,,X
8,a1,3,true,2,
8,b2,4,true,4,X
"""
_USERS = "uid,zip\n7,01234\n8,55555\n"
_ITEMS = "sku,name,colours,price\na1,1984,1|2,2\nb2,Dune,3,\n"
_BY_TIME = {"kind": "by_time", "validation_from": 3, "test_from": 4}
_FILES = {"log": "log.csv", "users": "users.csv", "items": "items.csv", "schema": "schema.yaml"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "schema.yaml").write_text(_SCHEMA)
    (tmp_path / "log.csv").write_text(_LOG)
    (tmp_path / "users.csv").write_text(_USERS)
    (tmp_path / "items.csv").write_text(_ITEMS)
    return tmp_path


def _load(folder, **changes):
    return load_table(folder, **{**_FILES, "split": _BY_TIME, **changes})


def test_csv_with_tables(folder):
    dataset = _load(folder)
    log = dataset.log
    assert log.user_ids.dtype == np.int64
    assert log.item_ids.tolist() == ["a1", "b2", "a1", "b2"]
    np.testing.assert_array_equal(log.labels("click"), [1, 0, 1, 1])
    np.testing.assert_array_equal(log.labels("rated"), [1, np.nan, 0, 1])
    values = {f.name: log.column(f).to_pylist() for f in log.schema.features}
    assert values == {
        "shop": ["NA", "X", None, "X"],
        "zip": ["01234", "01234", "55555", "55555"],
        "colours": ["1|2", "3", "1|2", "3"],
        "price": [2.0, None, 2.0, None],
    }
    assert log.items["name"].to_pylist() == ["1984", "Dune"]
    assert [part.times.tolist() for part in (dataset.split.train, dataset.split.test)] == [
        [1, 2],
        [4],
    ]


def test_parquet_gives_the_same_log(folder):
    from_csv = _load(folder)
    for name, table in (("log", from_csv.log.rows), ("users", from_csv.log.users)):
        pq.write_table(table, folder / f"{name}.parquet")
    dataset = _load(folder, log="log.parquet", users="users.parquet")
    assert dataset.log.fingerprint() == from_csv.log.fingerprint()


def test_glob_joins_files_and_agrees_on_one_type(folder):
    lines = _LOG.splitlines(keepends=True)
    (folder / "part_1.csv").write_text("".join(lines[:3]).replace("7,", "70,"))
    (folder / "part_2.csv").write_text(lines[0] + "".join(lines[3:]).replace("8,", "08,"))
    (folder / "users.csv").write_text("uid,zip\n70,1\n08,2\n")
    dataset = _load(folder, log="part_*.csv")
    assert dataset.log.user_ids.tolist() == ["70", "70", "08", "08"]


def test_tab_separated_and_compressed(folder):
    (folder / "log.tsv").write_text(_LOG.replace(",", "\t"))
    with pa.output_stream(str(folder / "log.csv.gz"), compression="gzip") as stream:
        stream.write(_LOG.encode())
    expected = _load(folder).log.fingerprint()
    assert _load(folder, log="log.tsv").log.fingerprint() == expected
    assert _load(folder, log="log.csv.gz").log.fingerprint() == expected


def test_dates_as_cuts(folder):
    header, *lines = _LOG.splitlines(keepends=True)
    for day, line in enumerate(lines, start=1):
        lines[day - 1] = line.replace(f",{day},", f",2024-05-0{day},", 1)
    (folder / "log.csv").write_text("".join([header, *lines]))
    cuts = {"kind": "by_time", "validation_from": "2024-05-02", "test_from": "2024-05-03"}
    split = _load(folder, split={**cuts, "until": "2024-05-04"}).split
    parts = (split.train, split.validation, split.test)
    assert [part.rows["ts"].cast("string").to_pylist() for part in parts] == [
        ["2024-05-01"],
        ["2024-05-02"],
        ["2024-05-03"],
    ]
    with pytest.raises(DatasetError, match=r"expected test_from as YYYY-MM-DD .* received 'May'"):
        _load(folder, split={**cuts, "test_from": "May"})


def test_history(folder):
    (folder / "old.csv").write_text(_LOG.replace("7,a1,1", "7,a1,-5"))
    history = _load(folder, history="old.csv").history
    assert history.times.tolist() == [-5, 2, 3, 4]


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ({"kind": "random", "validation": 0.25, "test": 0.25, "seed": 3}, [2, 1, 1]),
        ({"kind": "per_user_by_time", "validation": 0.4, "test": 0.4}, [3, 1, 1]),
        ({"kind": "leave_one_out"}, [3, 1, 1]),
    ],
)
def test_kinds_of_split(folder, split, sizes):
    if split["kind"] != "random":
        (folder / "log.csv").write_text(_LOG + "8,a1,5,true,1,X\n")
    parts = _load(folder, split=split).split
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == sizes


def test_schema_object(folder):
    schema = Schema(
        tasks=[Task(name="click")], user="uid", item="sku", features=[Feature(name="shop")]
    )
    split = {"kind": "random", "validation": 0.25, "test": 0.25}
    dataset = load_table(log=folder / "log.csv", schema=schema, split=split)
    assert len(dataset.log) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log": "lost.csv"}, r"no file .*lost\.csv; expected a path or a glob"),
        ({"log": "schema.yaml"}, r"cannot read .*schema\.yaml: expected \.csv"),
        ({"users": "log.csv"}, r"log\.csv.*users holds 2 keys more than once"),
        ({"items": None}, r"log\.csv.*feature 'colours': no column 'colours'"),
        ({"split": {"kind": "by_luck"}}, r"expected a kind out of .*received 'by_luck'"),
        ({"split": {}}, r"expected a kind out of .*received None"),
        ({"split": {"kind": "by_time", "test_from": 4}}, r"'validation_from'\] are needed"),
        ({"split": {"kind": "random", "sed": 4}}, r"split 'random': .*received \['sed'\]"),
        ({"split": {**_BY_TIME, "test_from": 9}}, r"log\.csv.*the test part is empty"),
        ({"split": {**_BY_TIME, "test_from": "2024-01-01"}}, r"the time column holds no dates"),
        ({"schema": "lost.yaml"}, r"cannot read the schema .*lost\.yaml"),
        ({"history": "users.csv"}, r"users\.csv: .*'sku'"),
    ],
)
def test_errors_name_the_file_and_the_remedy(folder, changes, message):
    with pytest.raises(DatasetError, match=message):
        _load(folder, **changes)


def test_missing_column_is_named(folder):
    (folder / "log.csv").write_text(_LOG.replace("stars", "points"))
    with pytest.raises(DatasetError, match=r"log\.csv.*task 'rated'.*'stars'"):
        _load(folder)


def test_broken_files(folder):
    (folder / "log.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DatasetError, match=r"cannot read .*log\.parquet"):
        _load(folder, log="log.parquet")
    (folder / "items.csv").write_text("sku,name,colours,price\na1,x,1,cheap\n")
    with pytest.raises(DatasetError, match=r"cannot read .*items\.csv.*cheap"):
        _load(folder)
    (folder / "schema.yaml").write_text("tasks: []")
    with pytest.raises(SchemaError, match="at least one task"):
        _load(folder)


def test_files_that_do_not_fit_together(folder):
    (folder / "part_1.csv").write_text(_LOG)
    (folder / "part_2.csv").write_text(_LOG.replace("true", "yes").replace("false", "no"))
    with pytest.raises(DatasetError, match=r"files of .*part_\*\.csv do not fit together"):
        _load(folder, log="part_*.csv")
