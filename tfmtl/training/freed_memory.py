"""Keeps freed memory in the process, so that the next training step need not fault it in again."""

from __future__ import annotations

import ctypes

# From malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = -1
_LARGEST_FROM_HEAP = 2**30


def keep_freed_memory() -> bool:
    """Asks the C library to reuse freed memory instead of returning it to the system.

    A training step allocates and frees hundreds of tensors of some MiB. By default, each of them
    is mapped anew and zeroed page by page by the kernel, which on a virtual machine takes longer
    than the arithmetic on it. Resident memory stays at the highest use so far in exchange.

    `train` calls it; call it once before a `model.fit` of your own on a CPU. It holds for the whole
    process. Something else may undo it: `tf.data.Dataset.from_generator` sets the opposite when
    its first iterator is made.

    Returns:
        Whether the C library took the setting; `False` where it is not the GNU one.

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    taken = [
        mallopt(_TRIM_THRESHOLD, _NEVER),
        mallopt(_MMAP_THRESHOLD, _LARGEST_FROM_HEAP),
    ]
    return all(taken)
