import pytest

from tfmtl.graph.written_aside import written_aside


def test_replaces_a_whole_folder(tmp_path):
    for text in ("first", "second"):
        with written_aside(tmp_path / "box", "label") as aside:
            (aside / "label").write_text(text)
            (aside / text).touch()
    assert sorted(path.name for path in (tmp_path / "box").iterdir()) == ["label", "second"]
    assert [path.name for path in tmp_path.iterdir()] == ["box"]


def test_keeps_the_old_folder_when_the_block_fails(tmp_path):
    with written_aside(tmp_path / "box", "label") as aside:
        (aside / "label").write_text("first")

    def write_half():
        with written_aside(tmp_path / "box", "label") as aside:
            (aside / "label").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert (tmp_path / "box" / "label").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["box"]


def test_refuses_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with (
        pytest.raises(FileExistsError, match="exists and holds no label"),
        written_aside(tmp_path, "label"),
    ):
        pass
    assert (tmp_path / "thesis.tex").exists()
