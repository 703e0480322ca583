"""Maps raw ids to dense integers, 0 for every id that training did not show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmtl.data.arrow_columns import identifiers, to_ids


class Vocabulary:
    """Sorted distinct raw ids; the r-th is encoded as r, from 1, and all others as 0.

    Args:
        values: Integers or strings, in any order; repeated and missing values are dropped.

    Raises:
        ValueError: If the values are neither integers nor strings.

    Example:
        >>> vocabulary = Vocabulary(["war", "drama", "war"])
        >>> vocabulary.size, vocabulary.encode(np.array(["war", "opera", None], object))
        (3, array([2, 0, 0], dtype=int32))
    """

    def __init__(self, values: Sequence | np.ndarray | pa.Array | pa.ChunkedArray) -> None:
        distinct = identifiers(_arrow(values)).unique().drop_null()
        self._values = distinct.take(pc.array_sort_indices(distinct))

    @classmethod
    def fit(
        cls,
        values: Sequence | np.ndarray | pa.Array | pa.ChunkedArray,
        min_count: int = 1,
        counts: np.ndarray | None = None,
    ) -> Vocabulary:
        """The vocabulary of the values that occur often enough.

        Args:
            values: Raw ids of training rows; missing ones are passed over.
            min_count: Fewest occurrences of an id that is kept.
            counts: Occurrences that each entry of `values` stands for, `[n]`; one when `None`.

        Raises:
            ValueError: If the values are neither integers nor strings.
        """
        encoded = identifiers(_arrow(values)).dictionary_encode()
        # Missing values have code -1 and are counted in the first bin.
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False) + 1
        seen = np.bincount(codes, weights=counts, minlength=len(encoded.dictionary) + 1)[1:]
        return cls(encoded.dictionary.filter(pa.array(seen >= max(min_count, 1))))

    def encode(self, values: Sequence | np.ndarray | pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Encoded ids.

        Args:
            values: Raw ids, `[n]`, of the vocabulary's type; missing ones are encoded as 0.

        Returns:
            `int32 [n]` in `0..size - 1`.

        Raises:
            ValueError: If strings are given to a vocabulary of integers or the other way round.
        """
        ids = identifiers(_arrow(values))
        if not len(self._values) or ids.null_count == len(ids):
            return np.zeros(len(ids), np.int32)
        if ids.type != self._values.type:
            raise ValueError(
                f"the vocabulary holds {self._values.type} ids such as {self._values[0].as_py()!r};"
                f" received {ids.type}: cast the column to the type seen in training"
            )
        found = pc.index_in(ids, value_set=self._values, skip_nulls=True)
        return pc.fill_null(found, -1).to_numpy(zero_copy_only=False) + np.int32(1)

    @property
    def values(self) -> np.ndarray:
        """Raw values in the order of their ids 1..n, `int64 [n]` or `object [n]` of `str`."""
        return to_ids(self._values)

    @property
    def size(self) -> int:
        """Number of encoded ids, id 0 included: rows of an embedding table."""
        return len(self._values) + 1

    def __repr__(self) -> str:
        return f"Vocabulary({self.size - 1} {self._values.type} values)"


def _arrow(values: Sequence | np.ndarray | pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    return pa.array(values, from_pandas=True)
