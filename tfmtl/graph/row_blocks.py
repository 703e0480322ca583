"""Rows of a store, a block at a time and on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.progress import track

Result = TypeVar("Result")


def row_blocks(
    block: Callable[[int, int], Result],
    num_rows: int,
    *,
    block_rows: int = 16_384,
    description: str = "Rows",
    progress: bool = False,
) -> Iterator[Result]:
    """Computes blocks of rows on all processor cores that the process may use.

    At most two blocks per core wait to be taken, whatever the number of rows.

    Args:
        block: Computes rows `first` to `last - 1`; should release the interpreter lock.
        num_rows: Number of rows.
        block_rows: Rows per call.
        description: Text of the progress bar.
        progress: Whether to show one.

    Yields:
        What `block` returned, in the order of the rows.

    Example:
        >>> list(row_blocks(lambda first, last: last - first, 5, block_rows=2))
        [2, 2, 1]
    """
    cores = len(os.sched_getaffinity(0))
    firsts = range(0, num_rows, block_rows)
    with ThreadPoolExecutor(cores) as threads:
        waves = (firsts[start : start + 2 * cores] for start in range(0, len(firsts), 2 * cores))
        results = (
            result
            for wave in waves
            for result in threads.map(
                lambda first: block(first, min(first + block_rows, num_rows)), wave
            )
        )
        yield from track(results, description=description, total=len(firsts), disable=not progress)
