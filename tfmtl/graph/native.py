"""Compiles the room's inner loops to machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def native(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function of NumPy arrays; calls release the interpreter lock.

    The machine code is kept on disk beside the module, or in the user's cache folder. Where
    neither can be written (a read-only image without a home), it is compiled once per process.

    Args:
        function: Function in the subset of Python that Numba compiles. What it calls should live
            in the same file: the cache on disk notices changes of that file only.

    Returns:
        The compiled function.

    Example:
        >>> import numpy as np
        >>> @native
        ... def total(values):
        ...     result = 0
        ...     for value in values:
        ...         result += value
        ...     return result
        >>> total(np.array([1, 2, 3]))
        6
    """
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)
