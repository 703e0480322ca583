import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that

from tfmtl.graph.macro_groups import Groups
from tfmtl.pipelines.beam import AdjacencyBlock, MacroRows
from tfmtl.pipelines.beam.adjacency_shards import write_document
from tfmtl.pipelines.beam.macro_shards import GROUPS, write_groups

# Pairs (user, item) with behaviours: (1, 1) 3, (1, 2) 1, (2, 2) 2, (2, 3) 1; two tasks.
BY_USER, BY_ITEM = np.array([11, 12, 22, 23]), np.array([11, 21, 22, 32])
BITS = np.array([3, 1, 2, 1], np.int32)
TIMES = np.array([4, 9, 9, 9])
SCORES = np.array([0, 1, 2, 5], np.float32)
# In parentheses: first hop, second hop, click, buy.
USER_ROWS = [
    # N_U1: 5 * 1 in node 1 and 1 * 0.25 in node 3. N_U2: 5 [0 0 2.5] + 1 [0 2 0.5].
    [*(0, 5, 0, 0.25), *(0, 2, 13), *(0, 1, 0, 1), *(0, 1, 0, 0)],
    # N_U1: 2 * 0.25 in node 3, and item 3 is inactive. N_U2: 2 [0 2 0.5] + 1 [0 1 0].
    [*(0, 0, 0, 0.5), *(0, 5, 1), *(0, 1, 0, 0), *(0, 0, 0, 1)],
]
ITEM_ROWS = [
    # N_I1: 5 * 0.5 in node 2. N_I2: 5 [0 5 0 0.25].
    [*(0, 0, 2.5), *(0, 25, 0, 1.25), *(0, 0, 1), *(0, 0, 1)],
    # N_I1: 2 * 1 in node 1, 1 * 0.5 in node 2. N_I2: 1 [0 5 0 0.25] + 2 [0 0 0 0.5].
    [*(0, 2, 0.5), *(0, 5, 0, 1.25), *(0, 0, 1), *(0, 1, 0)],
    # N_I1: 1 * 1 in node 1. N_I2: 1 [0 0 0 0.5].
    [*(0, 1, 0), *(0, 0, 0, 0.5), *(0, 1, 0), *(0, 0, 0)],
]


@pytest.fixture
def folder(tmp_path):
    users = Groups(np.array([0, 2, 1], np.int32), np.array([0, 0.5, 1], np.float32), 2)
    items = Groups(np.array([0, 1, 3, 1], np.int32), np.array([0, 1, 0.25, 0], np.float32), 3)
    write_groups(users, str(tmp_path), "user")
    write_groups(items, str(tmp_path), "item")
    write_document(str(tmp_path), GROUPS, {"counts": {"user": 2, "item": 3}})
    return str(tmp_path)


def blocks(pipeline, name, pairs, values):
    # A file holds a run of rows of its own, whatever the blocks of the job are.
    parts = [AdjacencyBlock.from_pairs(pairs[:2], values[:2], 10)]
    if name.startswith("user_item"):
        parts = [AdjacencyBlock.from_pairs(pairs[:1], values[:1], 10)]
    rest = slice(sum(part.indices.size for part in parts), None)
    parts.append(AdjacencyBlock.from_pairs(pairs[rest], values[rest], 10))
    return pipeline | f"Create {name}" >> beam.Create(parts)


def rows_are(macro, recent, behaviors):
    def equal(parts):
        parts = sorted(parts, key=lambda part: part[0][0])
        nodes, *tables = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        assert nodes.tolist() == list(range(1, len(macro) + 1))
        np.testing.assert_allclose(np.expm1(tables[0].astype(float)), macro, rtol=5e-3)
        assert tables[0].dtype == np.float16
        assert tables[1].tolist() == recent
        assert tables[2].tolist() == behaviors
        assert tables[2].dtype == np.uint8

    return equal


def test_rows_by_hand(folder):
    with beam.Pipeline() as pipeline:
        edges = {
            "item_user": blocks(pipeline, "item_user", BY_USER, BITS),
            "user_item": blocks(pipeline, "user_item", BY_ITEM, BITS),
            "item_user_time": blocks(pipeline, "item_user_time", BY_USER, TIMES),
            "user_item_time": blocks(pipeline, "user_item_time", BY_ITEM, TIMES),
        }
        rows = edges | MacroRows(folder, SCORES, recent=3, block_rows=2)
        # The latest first; at one time, the one with the higher score.
        items = [[2, 1, 0], [2, 3, 0]]
        bits = [[1, 3, 0], [2, 1, 0]]
        assert_that(rows["user"], rows_are(USER_ROWS, items, bits), label="users")
        users = [[1, 0, 0], [2, 1, 0], [2, 0, 0]]
        bits = [[3, 0, 0], [2, 1, 0], [1, 0, 0]]
        assert_that(rows["item"], rows_are(ITEM_ROWS, users, bits), label="items")


def test_times_of_other_edges(folder):
    pipeline = beam.Pipeline()
    edges = {
        "item_user": blocks(pipeline, "item_user", BY_USER, BITS),
        "user_item": blocks(pipeline, "user_item", BY_ITEM, BITS),
        "item_user_time": blocks(pipeline, "item_user_time", BY_USER[:3], TIMES[:3]),
    }
    _ = edges | MacroRows(folder, SCORES)
    with pytest.raises(ValueError, match="a latest time for each of 4 edges; received 3 of other"):
        pipeline.run()
