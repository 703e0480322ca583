import pytest

from tfmtl.data.splits import Split
from tfmtl.datasets import DatasetError, LoadedDataset, fetch, load


def test_load_by_name():
    dataset = load("simulator", num_users=50, num_items=40, num_rows=500, data_dir="/nowhere")
    assert isinstance(dataset, LoadedDataset)
    assert isinstance(dataset.split, Split)
    assert dataset.name == "simulator"
    assert dataset.log.items.num_rows == 40


def test_options_reach_the_loader(tmp_path):
    (tmp_path / "s.yaml").write_text("tasks: [{name: click}]")
    with pytest.raises(DatasetError, match=r"no file .*mine\.csv"):
        load("table", tmp_path, log="mine.csv", schema="s.yaml", split={"kind": "random"})


def test_unknown_name_lists_the_names():
    message = (
        r"no dataset 'movielens'; expected one of \['ali-ccp', 'aliexpress', 'census-income', "
    )
    with pytest.raises(DatasetError, match=message):
        load("movielens")


def test_unknown_option_lists_the_options():
    message = r"'census-income' has no options \['sed'\]; expected some of \['seed'\]"
    with pytest.raises(DatasetError, match=message):
        load("census-income", sed=1)


def test_missing_option_is_named():
    message = r"'table' needs the options \['log', 'split'\]; received \['schema'\]"
    with pytest.raises(DatasetError, match=message):
        load("table", schema="s.yaml")


def test_nothing_to_fetch():
    with pytest.raises(DatasetError, match=r"nothing to fetch for 'simulator'; expected one of"):
        fetch("simulator")


def test_fetch_finds_a_local_copy_through_the_variable(tmp_path, monkeypatch):
    folder = tmp_path / "census-income-kdd"
    folder.mkdir()
    for part in ("train", "test"):
        (folder / f"{part}.parquet").touch()
    monkeypatch.setenv("TFMTL_DATA_HOME", str(tmp_path))
    assert fetch("census-income") == folder
