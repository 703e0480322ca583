import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from tfmtl.pipelines.beam import combine_pairs
from tfmtl.pipelines.beam.combine_pairs import CombinePairs, reduced


def as_lists(block):
    return [part.tolist() for part in block]


def test_reduced_keeps_the_dtype_of_the_values():
    pairs = np.array([5, 2, 5, 5])
    received = reduced([(pairs, np.array([1, 4, 2, 1], np.uint8))], np.bitwise_or)
    assert [part.tolist() for part in received] == [[2, 5], [4, 3]]
    assert received[1].dtype == np.uint8


def test_reduced_of_empty_parts():
    empty = np.zeros(0, np.int64)
    assert reduced([(empty, empty)], np.add)[0].size == 0


@pytest.mark.parametrize("buffered", [2, 5, 1 << 22])
def test_equal_pairs_are_added_however_often_buffers_are_emptied(monkeypatch, buffered):
    monkeypatch.setattr(combine_pairs, "_BUFFERED_PAIRS", buffered)
    parts = [
        (np.array([3, 0, 3]), np.array([1, 2, 1]), np.array([1, 1, 1], np.int32)),
        (np.array([3, 2]), np.array([0, 1]), np.array([5, 7], np.int32)),
        (np.array([3]), np.array([1]), np.array([10], np.int32)),
    ]
    with beam.Pipeline() as pipeline:
        blocks = pipeline | beam.Create(parts) | CombinePairs(3, 2, np.add) | beam.Map(as_lists)
        # Rows 0 and 1 are one block, rows 2 and 3 the other.
        expected = [
            [[0], [0, 1], [2], [1]],
            [[2, 3], [0, 1, 3], [1, 0, 1], [7, 5, 12]],
        ]
        assert_that(blocks, equal_to(expected))


def test_parts_without_pairs_make_no_block():
    empty = np.zeros(0, np.int32)
    with beam.Pipeline() as pipeline:
        parts = pipeline | beam.Create([(empty, empty, empty)])
        assert_that(parts | CombinePairs(3, 2, np.add), equal_to([]))
