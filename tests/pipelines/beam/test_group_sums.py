import numpy as np

from tfmtl.graph.macro_groups import Groups
from tfmtl.pipelines.beam import AdjacencyBlock
from tfmtl.pipelines.beam.group_sums import group_sums


def test_sums_by_hand():
    # Row 2 meets sources 0, 1 and 3, row 6 source 3; sources 1 and 3 share macro node 2.
    block = AdjacencyBlock.from_pairs(np.array([20, 21, 23, 63]), np.ones(4, np.int32), 10)
    groups = Groups(np.array([0, 2, 1, 2], np.int32), np.ones(4, np.float32), 3)
    sums = group_sums(block, np.array([7, 0.5, 4, 10], np.float32), groups)
    assert sums.tolist() == [[7, 0, 4.5, 0], [0, 0, 10, 0]]
    assert sums.dtype == np.float32
