import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfmtl.datasets import DatasetError
from tfmtl.datasets.arrow_files import read_table


def test_both_forms(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,b\n")
    pq.write_table(pa.table({"x": [1], "y": ["b"]}), tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        assert read_table(tmp_path / name, needed=["y"]).to_pydict() == {"x": [1], "y": ["b"]}


def test_missing_columns_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,b\n")
    message = r"a\.csv: expected the columns \['z', 'w'\]; received \['x', 'y'\]"
    with pytest.raises(DatasetError, match=message):
        read_table(tmp_path / "a.csv", needed=["z", "y", "w"])


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "lost.parquet"])
def test_unreadable_file_is_named(tmp_path, name):
    for broken in ("a.csv", "a.parquet"):
        (tmp_path / broken).write_text("x,y\n1\n")
    with pytest.raises(DatasetError, match=rf"cannot read .*{name}: .*; replace the file"):
        read_table(tmp_path / name)
