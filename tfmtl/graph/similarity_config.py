"""Parameters of the similarity graphs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Measure = Literal["count", "cosine", "jaccard"]


class SimilarityConfig(BaseModel):
    """Which pairs of users, or of items, are similar enough for an edge.

    The defaults suit small logs; `min_degree=30, top_k=20, min_common=5` are the values for large
    ones.

    Args:
        measure: `count` of common neighbours, or that count normalised as `cosine` or `jaccard`.
        min_degree: Only nodes with more neighbours than this take part.
        top_k: Edges kept per receiver.
        min_common: Only pairs with more common neighbours than this are kept, for any measure.
        max_pivot_degree: Neighbours with a higher degree are skipped: they add pairs quadratic in
            their degree and say nothing about taste.

    Example:
        >>> SimilarityConfig(measure="cosine").top_k
        20
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: Measure = "count"
    min_degree: int = Field(default=5, ge=0)
    top_k: int = Field(default=20, ge=1)
    min_common: int = Field(default=2, ge=0)
    max_pivot_degree: int = Field(default=5000, ge=1)
