import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from tfmtl.pipelines.beam import AdjacencyBlock, ReadAdjacency, WriteAdjacency
from tfmtl.pipelines.beam.adjacency_shards import (
    check_no_shards,
    read_adjacency,
    read_document,
    write_document,
)

BLOCKS = [
    AdjacencyBlock.from_pairs(np.array([13, 10]), np.array([2.5, 1.5], np.float32), 10),
    AdjacencyBlock.from_pairs(np.array([27]), np.array([0.5], np.float32), 10),
]


@pytest.fixture
def folder(tmp_path):
    with beam.Pipeline() as pipeline:
        _ = pipeline | beam.Create(BLOCKS) | WriteAdjacency(str(tmp_path), "user_user")
    return str(tmp_path)


def rows_of(block):
    edges = zip(block.receivers, block.indices, block.values, strict=True)
    return [(int(row), int(column), float(value)) for row, column, value in edges]


EDGES = [(1, 0, 1.5), (1, 3, 2.5), (2, 7, 0.5)]


def test_shards_are_plain_parquet(folder, tmp_path):
    table = pq.read_table([str(path) for path in sorted(tmp_path.glob("user_user-*.parquet"))])
    assert sorted(table.to_pylist(), key=lambda row: row["row"]) == [
        {"row": 1, "columns": [0, 3], "values": [1.5, 2.5]},
        {"row": 2, "columns": [7], "values": [0.5]},
    ]


def test_read_inside_and_outside_of_a_pipeline(folder):
    edges = [edge for block in read_adjacency(folder, "user_user") for edge in rows_of(block)]
    assert sorted(edges) == EDGES
    with beam.Pipeline() as pipeline:
        read = pipeline | ReadAdjacency(folder, "user_user") | beam.FlatMap(rows_of)
        assert_that(read, equal_to(EDGES))


def test_missing_shards(folder):
    with pytest.raises(FileNotFoundError, match=r"no shards .*item_item-\*\.parquet"):
        next(read_adjacency(folder, "item_item"))


def test_shards_of_two_runs_are_not_mixed(folder):
    with pytest.raises(FileExistsError, match=r"user_user-\*\.parquet exist already"):
        check_no_shards(folder, "user_user")
    check_no_shards(folder, "item_item")


def test_document_is_replaced(tmp_path):
    for number in (1, 2):
        write_document(str(tmp_path), "note.json", {"number": number})
    assert read_document(str(tmp_path), "note.json") == {"number": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["note.json"]


def test_missing_document(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"note\.json is missing: a job writes it last"):
        read_document(str(tmp_path), "note.json")
