"""Times several functions in turn, so that what else the machine does strikes all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from rich.progress import track

Times = dict[str, list[float]]


def side_by_side(functions: Mapping[str, Callable[[], object]], *, rounds: int) -> Times:
    """Seconds of every function in each round; a first round, which traces, is left out.

    Args:
        functions: Name to a function that returns when its work is done.
        rounds: Rounds that are counted.
    """
    times: Times = {name: [] for name in functions}
    for number in track(range(rounds + 1), description="rounds"):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def ratio(times: Times, name: str, reference: str) -> float:
    """Median over the rounds of one function's time divided by another's."""
    pairs = zip(times[name], times[reference], strict=True)
    return statistics.median(own / other for own, other in pairs)


def milliseconds(times: Times) -> dict[str, float]:
    """Median time of every function."""
    return {name: 1e3 * statistics.median(own) for name, own in times.items()}
