import numpy as np
import pytest

from tfmtl.graph.align_groups import align_groups


def test_a_permuted_grouping_gets_its_old_numbers():
    rng = np.random.default_rng(0)
    previous = rng.integers(0, 9, 200)
    numbers = np.concatenate([[0], 1 + rng.permutation(8)])
    groups = numbers[previous]
    aligned = align_groups(groups, previous, 8)[groups]
    np.testing.assert_array_equal(aligned, previous)
    assert aligned.dtype == np.int32


def test_the_most_common_members_decide_together():
    # New group 1 shares 3 nodes with old 1 and 2 with old 2; new group 2 shares 4 with old 1 and
    # none with old 2. Apart, both want old 1; together 2 + 4 is more than 3 + 0.
    groups = np.array([1, 1, 1, 1, 1, 2, 2, 2, 2])
    previous = np.array([1, 1, 1, 2, 2, 1, 1, 1, 1])
    assert align_groups(groups, previous, 2)[groups].tolist() == [2, 2, 2, 2, 2, 1, 1, 1, 1]


def test_no_group_stays_none_and_new_nodes_follow_their_group():
    groups, previous = np.array([0, 1, 1, 2, 3]), np.array([3, 0, 2, 0, 0])
    aligned = align_groups(groups, previous, 3)[groups]
    # Group 1 continues 2; the others take the numbers that are left.
    assert aligned[:3].tolist() == [0, 2, 2]
    assert sorted(aligned[3:].tolist()) == [1, 3]


def test_refuses_groups_out_of_range():
    two = np.array([1, 2])
    with pytest.raises(ValueError, match="expected previous from 0 to 2; received 3: align macro"):
        align_groups(two, np.array([3, 1]), 2)
    with pytest.raises(ValueError, match="expected groups from 0 to 1; received 2"):
        align_groups(two, np.array([1, 1]), 1)
