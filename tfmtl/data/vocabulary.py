"""Maps raw ids to dense integers, those that training did not show to 0 or to buckets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmtl.data.arrow_columns import identifiers, to_ids
from tfmtl.data.fingerprints import fingerprints


class Vocabulary:
    """Distinct raw ids; the r-th of them is encoded as r + buckets, from 1, and all others alike.

    A missing id is encoded as 0, and so is an unknown one where there are no buckets. With K of
    them it is

        1 + fingerprint(text of the id) mod K

    with the decimal digits of an integer as its text, and the fingerprint of
    `tf.strings.to_hash_bucket_fast`. Buckets come first, so that a vocabulary that grows leaves
    every encoded id as it is; without values they are all there is, and encoding is hashing.

    Args:
        values: Integers or strings, in any order; repeated and missing values are dropped.
        buckets: Number K of encoded ids for unknown ones.
        sort: Whether ids are numbered in sorted order; in the order of `values` otherwise.

    Raises:
        ValueError: If the values are neither integers nor strings.

    Example:
        >>> vocabulary = Vocabulary(["war", "drama", "war"])
        >>> vocabulary.size, vocabulary.encode(np.array(["war", "opera", None], object))
        (3, array([2, 0, 0], dtype=int32))
        >>> Vocabulary(["war", "drama"], buckets=10).encode(["war", "opera", None])
        array([12,  3,  0], dtype=int32)
    """

    def __init__(
        self,
        values: Sequence | np.ndarray | pa.Array | pa.ChunkedArray,
        buckets: int = 0,
        *,
        sort: bool = True,
    ) -> None:
        distinct = identifiers(_arrow(values)).unique().drop_null()
        self._values = distinct.take(pc.array_sort_indices(distinct)) if sort else distinct
        self.buckets = buckets

    @classmethod
    def fit(
        cls,
        values: Sequence | np.ndarray | pa.Array | pa.ChunkedArray,
        min_count: int = 1,
        counts: np.ndarray | None = None,
        buckets: int = 0,
    ) -> Vocabulary:
        """The vocabulary of the values that occur often enough.

        Args:
            values: Raw ids of training rows; missing ones are passed over.
            min_count: Fewest occurrences of an id that is kept.
            counts: Occurrences that each entry of `values` stands for, `[n]`; one when `None`.
            buckets: Number of encoded ids for unknown ones.

        Raises:
            ValueError: If the values are neither integers nor strings.
        """
        encoded = identifiers(_arrow(values)).dictionary_encode()
        # Missing values have code -1 and are counted in the first bin.
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False) + 1
        seen = np.bincount(codes, weights=counts, minlength=len(encoded.dictionary) + 1)[1:]
        return cls(encoded.dictionary.filter(pa.array(seen >= max(min_count, 1))), buckets)

    def grow(self, other: Vocabulary) -> Vocabulary:
        """This vocabulary with the ids of another behind its own, whose numbers stay.

        Args:
            other: Ids, of the same type; those that are new are added in their order.

        Returns:
            The grown vocabulary, with the buckets of this one.

        Raises:
            ValueError: If the other's ids are of another type.
        """
        if not len(other._values):
            return self
        if not len(self._values):
            return Vocabulary(other._values, self.buckets, sort=False)
        self._check_type(other._values)
        return Vocabulary(pa.concat_arrays([self._values, other._values]), self.buckets, sort=False)

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
        if self.size == 1 or ids.null_count == len(ids):
            return np.zeros(len(ids), np.int32)
        self._check_type(ids)
        found = pc.index_in(ids, value_set=self._values, skip_nulls=True)
        known = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
        if not self.buckets:
            return known + np.int32(1)
        encoded = np.where(known < 0, 0, known + np.int32(self.buckets + 1)).astype(np.int32)
        unknown = (known < 0) & ids.is_valid().to_numpy(zero_copy_only=False)
        encoded[unknown] = self._hashed(ids.filter(pa.array(unknown)))
        return encoded

    def _hashed(self, ids: pa.Array) -> np.ndarray:
        # Every distinct id once: columns repeat few of them many times.
        distinct = ids.dictionary_encode()
        prints = fingerprints(distinct.dictionary.cast(pa.large_string()))
        hashed = (prints % np.uint64(self.buckets)).astype(np.int32) + np.int32(1)
        return hashed[distinct.indices.to_numpy()]

    def _check_type(self, ids: pa.Array) -> None:
        if ids.type != self.type:
            example = f" such as {self._values[0].as_py()!r}" if len(self._values) else ""
            raise ValueError(
                f"the vocabulary holds {self.type} ids{example};"
                f" received {ids.type}: cast the column to the type seen in training"
            )

    @property
    def values(self) -> np.ndarray:
        """Raw values in the order of their encoded ids, `int64 [n]` or `object [n]` of `str`."""
        return to_ids(self._values)

    @property
    def type(self) -> pa.DataType:
        """Type of the raw ids, `int64` or `large_string`; `int64` where training had none."""
        return self._values.type

    @property
    def size(self) -> int:
        """Number of encoded ids, id 0 and buckets included: rows of an embedding table."""
        return len(self._values) + self.buckets + 1

    def __repr__(self) -> str:
        buckets = f", {self.buckets} buckets" if self.buckets else ""
        return f"Vocabulary({len(self._values)} {self.type} values{buckets})"


def _arrow(values: Sequence | np.ndarray | pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, np.ndarray) and values.dtype == object and not len(values):
        # No strings, whose type Arrow cannot tell from nothing.
        return pa.array([], pa.large_string())
    return pa.array(values, from_pandas=True)
