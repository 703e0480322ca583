import itertools
import math

import numpy as np
import pytest

from tfmtl.metrics import expected_calibration_error


def test_equal_width():
    # Bins [0, .5) and [.5, 1]. First: rate 1/3, mean 0.2, gap 0.1333. Second: rate 0, mean 0.7.
    # (3 * 0.13333 + 2 * 0.7) / 5 = 0.36.
    error = expected_calibration_error(
        [1, 0, 0, 0, 0], [0.1, 0.2, 0.3, 0.5, 0.9], bins=2, binning="equal_width"
    )
    assert error == pytest.approx(0.36)


def test_equal_mass():
    # Halves of the sorted rows: rate 1/2 against mean 0.15; rate 0 against mean 0.35.
    error = expected_calibration_error([1, 0, 0, 0], [0.1, 0.2, 0.3, 0.4], bins=2)
    assert error == pytest.approx((0.35 + 0.35) / 2)


def test_equal_mass_by_weight():
    # The row of weight 3 fills the first half: gap 0.1. The others: 1 - (0.2 + 2 * 0.5) over 3.
    error = expected_calibration_error([0, 1, 0], [0.1, 0.2, 0.5], weights=[3, 1, 2], bins=2)
    assert error == pytest.approx((3 * 0.1 + abs(1 - 1.2)) / 6)


def test_ties_share_a_bin_whatever_their_order():
    # Of two bins the tied middle rows, whose middle is at half the mass, go to the second.
    probabilities = np.array([0.1, 0.5, 0.5, 0.9])
    labels = np.array([0, 1, 0, 1])
    expected = (0.1 + abs((1 + 0 + 1) - (0.5 + 0.5 + 0.9))) / 4
    for order in ([0, 1, 2, 3], [0, 2, 1, 3], [3, 2, 1, 0]):
        error = expected_calibration_error(labels[order], probabilities[order], bins=2)
        assert error == pytest.approx(expected)


@pytest.mark.parametrize("binning", ["equal_mass", "equal_width"])
def test_more_bins_never_lower_it_and_one_bin_is_the_overall_gap(rows, binning):
    labels, probabilities, _, _ = rows
    errors = [
        expected_calibration_error(labels, probabilities, bins=bins, binning=binning)
        for bins in (1, 2, 4, 8, 16)
    ]
    assert errors[0] == pytest.approx(abs((labels - probabilities.astype(float)).mean()))
    assert all(after >= before - 1e-12 for before, after in itertools.pairwise(errors))


def test_a_probability_of_1_falls_into_the_last_bin():
    assert expected_calibration_error([1], [1.0], bins=7, binning="equal_width") == 0.0


def test_is_nan_without_rows():
    assert math.isnan(expected_calibration_error([], []))


def test_refuses():
    with pytest.raises(ValueError, match="at least 1 bin; received bins=0"):
        expected_calibration_error([1], [0.5], bins=0)
    with pytest.raises(ValueError, match="received 'quantile'"):
        expected_calibration_error([1], [0.5], binning="quantile")
    with pytest.raises(ValueError, match="apply the sigmoid"):
        expected_calibration_error([1], [1.5])
