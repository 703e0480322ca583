import itertools
import os
import time

import pytest

from tfmtl.graph.row_blocks import row_blocks


def test_blocks_come_in_the_order_of_the_rows():
    def block(first, last):
        # Earlier blocks take longer.
        time.sleep(0.02 * (first < 3))
        return list(range(first, last))

    blocks = list(row_blocks(block, 20, block_rows=3))
    assert [len(rows) for rows in blocks] == [3, 3, 3, 3, 3, 3, 2]
    assert list(itertools.chain(*blocks)) == list(range(20))


def test_no_rows_make_no_block():
    assert list(row_blocks(lambda first, last: 1, 0)) == []


def test_an_exception_in_a_block_reaches_the_caller():
    def block(first, last):
        if first == 6:
            raise OSError("disk full")
        return first

    blocks = row_blocks(block, 20, block_rows=2)
    assert list(itertools.islice(blocks, 3)) == [0, 2, 4]
    with pytest.raises(OSError, match="disk full"):
        next(blocks)


def test_few_blocks_wait_to_be_taken():
    made = []

    def block(first, last):
        made.append(first)

    blocks = row_blocks(block, 1000, block_rows=1)
    next(blocks)
    assert len(made) <= 2 * len(os.sched_getaffinity(0))
    blocks.close()
    assert len(made) <= 2 * len(os.sched_getaffinity(0))


def test_progress_bar_leaves_the_result_alone(capsys):
    blocks = row_blocks(lambda first, last: last, 5, block_rows=2, description="R", progress=True)
    assert list(blocks) == [2, 4, 5]
    assert "R" in capsys.readouterr().out
