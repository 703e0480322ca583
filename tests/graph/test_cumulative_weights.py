import numpy as np
import pytest

from tfmtl.graph import CSR
from tfmtl.graph.cumulative_weights import cumulative_weights


def store(weights):
    rows, columns = np.array([0, 0, 0, 2, 2]), np.array([0, 1, 2, 0, 2])
    return CSR.from_edges(rows, columns, 3, 3, {"weight": np.array(weights, np.float32)})


def test_every_row_starts_anew():
    sums = cumulative_weights(store([0.5, 2, 4, 1, 8]))
    assert sums.dtype == np.float64
    assert sums.tolist() == [0.5, 2.5, 6.5, 1, 9]


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_names_the_row_of_a_bad_weight(bad):
    with pytest.raises(ValueError, match=r"row 2: expected positive, finite weights .* received"):
        cumulative_weights(store([1, 1, 1, 1, bad]))
