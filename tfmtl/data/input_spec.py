"""What a model must know of one encoded input to build its layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfmtl.schema import Side


@dataclass(frozen=True)
class InputSpec:
    """One key of the feature dictionary.

    Args:
        name: Key in the feature dictionary.
        kind: `categorical` is `int32 [B]`, `list` is `int32 [B, width]` padded right with 0, and
            `numeric` is `float32 [B]`, or `float32 [B, width]` for the statistics and vectors.
        side: Entity that the input describes; `context` for the row itself.
        vocabulary_size: Rows of the embedding table, id 0 included; 0 for numeric inputs.
        width: Values per row.
        vocabulary: Whose ids these are: inputs with the same one share a table; `None` means
            its own.
        bins: Bins by which a model also encodes each value of a numeric input, see
            `FeatureEmbedding`; 0 leaves it a single number.
        list_kind: What a list is, as its feature's kind says: a set (`multi_categorical`), a
            `text` or a `sequence`; `None` for other inputs.
        vector: Whether a numeric input is a vector that another model computed, whose numbers
            mean something together only; bins are not for it.

    Example:
        >>> InputSpec("tab", "categorical", "context", 5, 1, "tab").vocabulary_size
        5
    """

    name: str
    kind: Literal["categorical", "numeric", "list"]
    side: Side
    vocabulary_size: int
    width: int
    vocabulary: str | None = None
    bins: int = 0
    list_kind: Literal["multi_categorical", "text", "sequence"] | None = None
    vector: bool = False
