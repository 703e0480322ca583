import numpy as np
import pytest

from tfmtl.graph import MacroConfig, training_versions


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_every_fold_has_its_share_of_the_rows(folds):
    versions = training_versions(MacroConfig(folds=folds), 100)
    assert versions.dtype == np.int32
    counts = np.bincount(versions)
    # Version 0 knows of all rows: no training row reads it.
    assert counts[0] == 0
    assert len(counts) == folds + 1
    assert counts[1:].max() - counts[1:].min() <= 1


def test_the_seed_makes_the_folds():
    first, again, other = (
        training_versions(MacroConfig(folds=4, seed=seed), 80) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_folds_are_not_in_the_order_of_the_log():
    versions = training_versions(MacroConfig(folds=2), 1000)
    # Of 999 neighbours about half are of different folds: neither all nor few.
    assert 400 < np.count_nonzero(np.diff(versions)) < 600


def test_with_a_history_all_training_rows_read_one_version():
    assert training_versions(MacroConfig(counting="history"), 3).tolist() == [1, 1, 1]


def test_no_rows():
    assert training_versions(MacroConfig(), 0).shape == (0,)
