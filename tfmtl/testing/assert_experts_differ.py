"""Checks that experts do not start as copies of one another."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike


def assert_experts_differ(kernels: Iterable[ArrayLike], least: float = 0.5) -> None:
    """Fails when two experts' kernels are closer than a share of their norm.

    Independent kernels are about sqrt(2) norms apart; kernels drawn from one seed, or set to a
    constant, are 0 apart and stay close in training.

    Args:
        kernels: One kernel per expert, of equal shapes: an array stacked `[E, ...]`, or a
            list.
        least: Least distance of two kernels, as a share of their mean norm. Defaults to 0.5.

    Raises:
        AssertionError: Naming the closest pair.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> assert_experts_differ(rng.normal(size=[4, 16, 8]))
    """
    flat = np.stack([np.asarray(kernel, np.float64).ravel() for kernel in kernels])
    assert len(flat) > 1, f"expected at least two experts; received {len(flat)}"
    norms = np.linalg.norm(flat, axis=1)
    assert np.all(np.isfinite(norms) & (norms > 0)), (
        f"expected kernels that are finite and not zero; received norms {norms.tolist()}"
    )
    distances = np.linalg.norm(flat[:, None] - flat, axis=2) / ((norms[:, None] + norms) / 2)
    np.fill_diagonal(distances, np.inf)
    first, second = np.unravel_index(np.argmin(distances), distances.shape)
    closest = distances[first, second]
    assert closest > least, (
        f"experts {first} and {second} are {closest:.3f} of their norm apart; "
        f"expected more than {least}: give each expert its own draw of the initialiser"
    )
