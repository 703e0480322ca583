import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tfmtl.data.causal_sums import sums_of_earlier_rows, sums_of_other_folds, sums_per_code


@pytest.fixture
def rows():
    random = np.random.default_rng(5)
    codes = random.integers(0, 4, 50).astype(np.int32)
    counted = random.integers(0, 2, (3, 50)).astype(np.int8)
    return codes, counted, random.integers(0, 6, 50)


def test_sums_per_code_leave_out_missing_ids(rows):
    codes, counted, _ = rows
    sums = sums_per_code(codes, counted, 5)
    assert_array_equal(sums[0], [0, 0, 0])
    assert_array_equal(sums[3], counted[:, codes == 3].sum(axis=1))
    assert_array_equal(sums[4], [0, 0, 0])


def test_earlier_rows_equal_a_loop_over_pairs(rows):
    codes, counted, ranks = rows
    sums = sums_of_earlier_rows(codes, counted, ranks)
    for i in range(50):
        seen = (codes == codes[i]) & (ranks < ranks[i])
        assert_array_equal(sums[:, i], counted[:, seen].sum(axis=1))


def test_other_folds_equal_a_loop_over_pairs(rows):
    codes, counted, folds = rows
    sums = sums_of_other_folds(codes, counted, 4, folds, 6)
    for i in range(50):
        seen = (codes == codes[i]) & (folds != folds[i])
        assert_array_equal(sums[:, i], counted[:, seen].sum(axis=1))
