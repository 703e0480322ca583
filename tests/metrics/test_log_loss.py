import math

import numpy as np
import pytest
from sklearn.metrics import log_loss as reference

from tfmtl.metrics import log_loss


def test_weighs_rows():
    # -(ln 0.25 * 3 + ln 0.9 * 1) / 4
    expected = (3 * math.log(4) - math.log(0.9)) / 4
    assert log_loss([1, 0], [0.25, 0.1], weights=[3, 1]) == pytest.approx(expected, rel=1e-12)


def test_equals_the_reference(rows):
    labels, probabilities, _, weights = rows
    probabilities = probabilities.astype(np.float64)
    assert log_loss(labels, probabilities, weights) == pytest.approx(
        reference(labels, probabilities, sample_weight=weights), abs=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clips_certain_rows(dtype):
    wrong = np.array([0.0, 1.0], dtype)
    assert log_loss([1, 0], wrong) == pytest.approx(-math.log(1e-7), rel=1e-9)


def test_is_nan_without_rows():
    assert math.isnan(log_loss([1], [0.5], weights=[0]))


def test_refuses_logits():
    with pytest.raises(ValueError, match=r"from -2.0 to 0.5: apply the sigmoid"):
        log_loss([1, 0], [0.5, -2.0])
