from pathlib import Path

import pytest

from tfmtl.datasets.data_home import data_home, find_folder, writing_folder


def test_argument_wins_over_variable_and_variable_over_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFMTL_DATA_HOME", raising=False)
    assert data_home() == tmp_path / ".cache" / "tfmtl"
    monkeypatch.setenv("TFMTL_DATA_HOME", "~/logs")
    assert data_home() == tmp_path / "logs"
    assert data_home(tmp_path / "other") == tmp_path / "other"


def test_find_folder_wants_every_file_in_either_form(tmp_path):
    required = (("log_*.parquet", "log_*.csv"), ("users.csv",))
    incomplete, complete = tmp_path / "first", tmp_path / "second"
    for folder in (incomplete, complete):
        folder.mkdir()
        (folder / "log_1.csv").touch()
    assert find_folder(tmp_path, ("first", "second"), required) is None
    (complete / "users.csv").touch()
    assert find_folder(tmp_path, ("first", "second"), required) == complete
    assert find_folder(complete, ("first", "second"), required) == complete


def test_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "home" / "films"

    def write(error: bool) -> None:
        with writing_folder(target) as draft:
            (draft / "a.txt").write_text("a")
            assert not target.exists()
            if error:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(error=True)
    assert list((tmp_path / "home").iterdir()) == []
    write(error=False)
    assert [path.name for path in (tmp_path / "home").rglob("*")] == ["films", "a.txt"]


def test_an_incomplete_folder_is_completed(tmp_path):
    target = tmp_path / "films"
    target.mkdir()
    (target / "kept.txt").write_text("kept")
    (target / "a.txt").write_text("old")
    with writing_folder(target) as draft:
        (draft / "a.txt").write_text("new")
    assert sorted(path.name for path in Path(target).iterdir()) == ["a.txt", "kept.txt"]
    assert (target / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["films"]
