"""The ranges of a similarity graph's parameters."""

from __future__ import annotations

from typing import get_args

from tfmtl.graph.similarity_config import Measure

MEASURES = get_args(Measure)


def check_similarity_parameters(
    *,
    measure: str,
    min_degree: int,
    top_k: int,
    min_common: int,
    max_pivot_degree: int,
    block_rows: int,
) -> None:
    """Checks what a similarity graph is built with.

    Args:
        measure: One of `count`, `cosine`, `jaccard`.
        min_degree: 0 or more.
        top_k: 1 or more.
        min_common: 0 or more.
        max_pivot_degree: 1 or more.
        block_rows: 1 or more.

    Raises:
        ValueError: Names the first parameter out of range.

    Example:
        >>> check_similarity_parameters(measure="count", min_degree=5, top_k=0, min_common=2,
        ...                             max_pivot_degree=5000, block_rows=512)
        Traceback (most recent call last):
        ValueError: expected top_k of at least 1; received 0
    """
    if measure not in MEASURES:
        raise ValueError(f"unknown measure {measure!r}; expected one of {list(MEASURES)}")
    for name, value, least in (
        ("min_degree", min_degree, 0),
        ("top_k", top_k, 1),
        ("min_common", min_common, 0),
        ("max_pivot_degree", max_pivot_degree, 1),
        ("block_rows", block_rows, 1),
    ):
        if value < least:
            raise ValueError(f"expected {name} of at least {least}; received {value}")
