import numpy as np
import pytest


@pytest.fixture
def rows():
    """Labels, tied float32 probabilities, users (some of one class) and weights of 3000 rows."""
    rng = np.random.default_rng(3)
    size = 3000
    users = rng.zipf(1.4, size) % 211
    labels = (rng.random(size) < 0.2 + 0.3 * (users % 3 == 0)).astype(np.float32)
    probabilities = (rng.beta(2, 5, size) * 0.8 + 0.1 * labels).round(2).astype(np.float32)
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], size)
    return labels, probabilities, users, weights
