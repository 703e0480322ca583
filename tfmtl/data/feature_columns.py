"""Raw Arrow columns of features as arrays of numbers, of vectors and of padded ids."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmtl.data.arrow_columns import canonical, identifiers
from tfmtl.data.interaction_log import LogError
from tfmtl.data.vocabulary import Vocabulary
from tfmtl.schema import Feature


def numeric_values(column: pa.ChunkedArray, feature: Feature, place: str) -> np.ndarray:
    """A numeric feature, filled and transformed but not yet standardised.

    Args:
        column: Raw column of length n.
        feature: A numeric feature.
        place: Where the column comes from, for messages.

    Returns:
        `float64 [n]`, finite.

    Raises:
        LogError: If values are missing or not finite and the feature has no `fill`, the column
            does not hold numbers, or `transform: log` meets a value of -1 or less.

    Example:
        >>> feature = Feature(name="price", kind="numeric", transform="log", fill=0.0)
        >>> numeric_values(pa.chunked_array([[None, 0.0]]), feature, "the log")
        array([0., 0.])
    """
    values = canonical(column)
    kind = values.type
    if not (pa.types.is_int64(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise LogError(
            f"numeric feature {feature.name!r}: column {feature.source!r} of {place} holds "
            f"{column.type}: cast it to a number, or declare the feature as categorical"
        )
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    missing = ~np.isfinite(numbers)
    if missing.any():
        if feature.fill is None:
            raise LogError(
                f"numeric feature {feature.name!r}: column {feature.source!r} is missing, NaN or "
                f"infinite in {np.count_nonzero(missing)} of {len(numbers)} rows of {place}: "
                "set fill= on the feature, or clean the column"
            )
        numbers = np.where(missing, feature.fill, numbers)
    if feature.transform != "log":
        return numbers
    low = numbers[numbers <= -1]
    if len(low):
        raise LogError(
            f"numeric feature {feature.name!r}: transform 'log' takes log(1 + x), but column "
            f"{feature.source!r} of {place} holds {low[0]:g} and other values <= -1 in {len(low)} "
            "rows: use transform 'standard', or clean the column"
        )
    return np.log1p(numbers)


def vector_values(column: pa.ChunkedArray, feature: Feature, place: str) -> np.ndarray:
    """A feature of precomputed vectors, unchanged.

    Args:
        column: Raw column of length n: lists of floats, of fixed or variable size.
        feature: A vector feature.
        place: Where the column comes from, for messages.

    Returns:
        `float32 [n, dim]`, finite; zeros where the vector is missing.

    Raises:
        LogError: If the column does not hold lists of numbers, a list has another length than
            `dim`, or a number is missing, NaN, or infinite in single precision.

    Example:
        >>> feature = Feature(name="title_vector", kind="vector", dim=2)
        >>> vector_values(pa.chunked_array([[[0.5, -1.0], None]]), feature, "the log")
        array([[ 0.5, -1. ],
               [ 0. ,  0. ]], dtype=float32)
    """
    what = f"vector feature {feature.name!r}: column {feature.source!r} of {place}"
    vectors = np.zeros((len(column), feature.width), np.float32)
    if pa.types.is_null(column.type):
        return vectors
    if not _holds_vectors(column.type):
        raise LogError(
            f"{what} holds {column.type}; expected lists of {feature.width} floats: read it from "
            "a file that has lists, such as Parquet, or declare the feature as another kind"
        )
    # Sizes of 64 bits, because all numbers of a long column may not fit into 32.
    lists = column.cast(pa.large_list(pa.float32()), safe=False).combine_chunks()
    present = lists.is_valid().to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(lists).fill_null(feature.width).to_numpy()
    wrong = np.flatnonzero(lengths != feature.width)
    if len(wrong):
        raise LogError(
            f"{what} holds a list of {lengths[wrong[0]]} values, and another length than "
            f"{feature.width} in {len(wrong)} of {len(lengths)} rows: set dim= to the length of "
            "the lists, or make a missing vector null"
        )
    flat = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
    vectors[present] = flat.reshape(-1, feature.width)
    broken = np.count_nonzero(~np.isfinite(vectors).all(axis=1))
    if broken:
        raise LogError(
            f"{what} holds vectors with numbers that are missing, NaN or infinite in "
            f"{broken} of {len(vectors)} rows; expected finite ones: compute these vectors again, "
            "or make them null"
        )
    return vectors


def categorical_ids(
    column: pa.ChunkedArray, feature: Feature, vocabulary: Vocabulary
) -> np.ndarray:
    """A categorical feature as `int32 [n]`, 0 where missing, and out of vocabulary its bucket or 0.

    Raises:
        LogError: If the column's type is not that of the vocabulary.
    """
    try:
        return vocabulary.encode(column)
    except (TypeError, ValueError) as error:
        raise _named(feature, error) from error


def list_values(column: pa.ChunkedArray, feature: Feature) -> tuple[pa.Array, np.ndarray]:
    """The values of a multi-valued feature, end to end.

    Lists are taken as they are; strings are split at `separator`, or, for text, lower-cased and
    split at everything that is neither letter nor digit. Empty parts are dropped, and only the
    last `max_length` values of a row are kept.

    Args:
        column: Raw column of length n; a missing list is an empty one.
        feature: A multi-valued feature.

    Returns:
        The ids of all rows, `int64` or `large_string`, and how many each row has, `int64 [n]`.

    Raises:
        LogError: If the column holds neither lists nor strings that can be split.

    Example:
        >>> feature = Feature(name="title", kind="text", max_length=2)
        >>> values, lengths = list_values(pa.chunked_array([["The Big-Sleep", None]]), feature)
        >>> values.to_pylist(), lengths
        (['big', 'sleep'], array([2, 0]))
    """
    lists = _lists(canonical(column), feature)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    try:
        values = identifiers(pc.list_flatten(lists))
    except ValueError as error:
        raise _named(feature, error) from error
    if pa.types.is_large_string(values.type):
        kept = pc.fill_null(pc.not_equal(values, ""), True).to_numpy(zero_copy_only=False)
        owner = np.repeat(np.arange(len(lengths)), lengths)
        lengths = np.bincount(owner[kept], minlength=len(lengths))
        values = values.filter(pa.array(kept))
    ends = np.cumsum(lengths)
    from_end = np.repeat(ends, lengths) - np.arange(len(values))
    values = values.filter(pa.array(from_end <= feature.max_length))
    return values, np.minimum(lengths, feature.max_length)


def padded_ids(
    values: pa.Array, lengths: np.ndarray, feature: Feature, vocabulary: Vocabulary
) -> np.ndarray:
    """Encodes what `list_values` returns.

    Args:
        values: Ids of all rows, end to end.
        lengths: How many of them each row has, `int64 [n]`, at most `feature.max_length`.
        feature: The feature.
        vocabulary: Its vocabulary. Strings are read as integers where it holds integers.

    Returns:
        `int32 [n, max_length]`, padded right with 0; an id out of vocabulary is its bucket, or 0,
        in its place.

    Raises:
        LogError: If the values are not of the vocabulary's type.
    """
    try:
        if pa.types.is_large_string(values.type) and pa.types.is_int64(vocabulary.type):
            values = values.cast(pa.int64())
        ids = vocabulary.encode(values)
    except ValueError as error:
        raise _named(feature, error) from error
    rows = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    padded = np.zeros((len(lengths), feature.max_length), np.int32)
    padded[rows, places] = ids
    return padded


def _holds_vectors(kind: pa.DataType) -> bool:
    types = pa.types
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return False
    values = kind.value_type
    return types.is_floating(values) or types.is_integer(values) or types.is_null(values)


def _lists(values: pa.Array, feature: Feature) -> pa.Array:
    if pa.types.is_large_list(values.type):
        return values
    if pa.types.is_null(values.type):
        return values.cast(pa.large_list(pa.int64()))
    if pa.types.is_large_string(values.type):
        if feature.kind == "text":
            return pc.split_pattern_regex(pc.utf8_lower(values), r"[^\p{L}\p{N}]+")
        if feature.separator:
            return pc.split_pattern(values, feature.separator)
    raise LogError(
        f"{feature.kind} feature {feature.name!r}: column {feature.source!r} holds "
        f"{values.type} values; expected "
        + ("strings" if feature.kind == "text" else "lists, or strings and a separator")
        + ": set separator= on the feature, or convert the column"
    )


def _named(feature: Feature, error: Exception) -> LogError:
    return LogError(f"feature {feature.name!r}, column {feature.source!r}: {error}")
