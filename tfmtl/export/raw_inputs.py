"""The inputs of an exported model: raw ids and raw features, by name."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfmtl.data.arrow_columns import canonical, identifiers
from tfmtl.data.feature_columns import list_values, vector_values
from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.data.interaction_log import InteractionLog
from tfmtl.data.vocabulary import Vocabulary
from tfmtl.data.vocabulary_fitting import vocabulary_owner
from tfmtl.schema import ITEM_ID, USER_ID, Feature

Signature = Literal["serving_default", "by_id"]

# No log holds these ids: they stand for missing ones. An empty string may well be a category.
MISSING_ID = np.iinfo(np.int64).min
MISSING_TEXT = "\0missing"


class IdLookup(tf.Module):
    """A vocabulary as TensorFlow ops: encodes raw ids as `Vocabulary.encode` does.

    Args:
        vocabulary: The vocabulary to reproduce.
        name: Name of the module.

    Example:
        >>> lookup = IdLookup(Vocabulary(["war", "drama"], buckets=10))
        >>> lookup.lookup(tf.constant(["war", "opera", MISSING_TEXT])).numpy().tolist()
        [12, 3, 0]
    """

    def __init__(self, vocabulary: Vocabulary, name: str = "ids"):
        super().__init__(name=name)
        self._buckets = vocabulary.buckets
        self.key_dtype = tf.int64 if pa.types.is_int64(vocabulary.type) else tf.string
        missing = MISSING_ID if self.key_dtype == tf.int64 else MISSING_TEXT
        first = 1 + vocabulary.buckets
        # TensorFlow's tables have at least one entry.
        initializer = tf.lookup.KeyValueTensorInitializer(
            tf.constant([missing, *vocabulary.values.tolist()], self.key_dtype),
            tf.constant([0, *range(first, vocabulary.size)], tf.int32),
        )
        self._table = tf.lookup.StaticHashTable(initializer, default_value=-1)

    def lookup(self, ids: tf.Tensor) -> tf.Tensor:
        """Encoded ids `int32 [...]` of raw ids `int64 [...]` or `string [...]`."""
        found = self._table.lookup(ids)
        if not self._buckets:
            return tf.maximum(found, 0)
        texts = tf.strings.as_string(ids) if self.key_dtype == tf.int64 else ids
        hashed = 1 + tf.cast(tf.strings.to_hash_bucket_fast(texts, self._buckets), tf.int32)
        return tf.where(found < 0, hashed, found)


def takes_text(feature: Feature) -> bool:
    """Whether a list feature is requested as one string, split in the model.

    Args:
        feature: A feature of the schema.

    Returns:
        True for text and for lists stored with a separator.

    Example:
        >>> takes_text(Feature(name="genre", kind="multi_categorical", separator="|"))
        True
    """
    return feature.kind == "text" or (feature.is_list and feature.separator is not None)


def requested_features(encoder: FeatureEncoder, signature: Signature) -> tuple[Feature, ...]:
    """Features a request has to bring.

    Args:
        encoder: The model's encoder.
        signature: `serving_default` takes every feature; `by_id` takes those of the context, and
            the model knows the users' and items' own.

    Returns:
        The features, in the order of the schema.

    Raises:
        ValueError: If `by_id` is asked of a log without users and items.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.data import TrainingLog
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")], features=[Feature(name="tab")])
        >>> rows = pa.table({"user_id": [7, 9], "item_id": [1, 2], "tab": [3, 3], "click": [1, 0]})
        >>> encoder = FeatureEncoder.fit(TrainingLog(rows, schema))
        >>> [feature.name for feature in requested_features(encoder, "by_id")]
        ['tab']
    """
    if signature == "by_id" and not encoder.schema.has_ids:
        raise ValueError(
            "a log without users and items has no signature 'by_id': use 'serving_default'"
        )
    return tuple(
        feature
        for feature in encoder.schema.features
        if signature == "serving_default" or feature.side == "context"
    )


def input_specs(encoder: FeatureEncoder, signature: Signature) -> dict[str, tf.TensorSpec]:
    """Named inputs of a signature; every one has the batch as its first dimension.

    Args:
        encoder: The model's encoder.
        signature: Which signature.

    Returns:
        Input name to `tf.TensorSpec`: ids and categorical features `int64 [B]` or `string [B]`,
        numeric features `float32 [B]`, vectors `float32 [B, dim]`, text and separated lists
        `string [B]`, other lists `[B, max_length]` of ids, padded right with a value that is no id.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.data import TrainingLog
        >>> from tfmtl.schema import Schema, Task
        >>> rows = pa.table({"user_id": ["a"], "item_id": [1], "click": [1]})
        >>> train = TrainingLog(rows, Schema(tasks=[Task(name="click")]))
        >>> input_specs(FeatureEncoder.fit(train), "by_id")["user_id"].dtype
        tf.string
    """
    specs = {}
    if encoder.schema.has_ids:
        for name in (USER_ID, ITEM_ID):
            specs[name] = tf.TensorSpec([None], id_dtype(encoder, name), name)
    for feature in requested_features(encoder, signature):
        if feature.kind == "numeric":
            specs[feature.name] = tf.TensorSpec([None], tf.float32, feature.name)
        elif feature.kind == "vector":
            specs[feature.name] = tf.TensorSpec([None, feature.width], tf.float32, feature.name)
        elif takes_text(feature):
            specs[feature.name] = tf.TensorSpec([None], tf.string, feature.name)
        else:
            shape = [None, feature.max_length] if feature.is_list else [None]
            dtype = id_dtype(encoder, vocabulary_owner(encoder.schema, feature))
            specs[feature.name] = tf.TensorSpec(shape, dtype, feature.name)
    return specs


def id_dtype(encoder: FeatureEncoder, vocabulary: str) -> tf.DType:
    """`tf.int64` or `tf.string`, the type of a vocabulary's raw ids.

    Args:
        encoder: The model's encoder.
        vocabulary: Name of a vocabulary.

    Returns:
        The type.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.data import TrainingLog
        >>> from tfmtl.schema import Schema, Task
        >>> rows = pa.table({"user_id": ["a"], "item_id": [1], "click": [1]})
        >>> train = TrainingLog(rows, Schema(tasks=[Task(name="click")]))
        >>> id_dtype(FeatureEncoder.fit(train), "item_id")
        tf.int64
    """
    return tf.int64 if pa.types.is_int64(encoder.vocabularies[vocabulary].type) else tf.string


def raw_request(
    encoder: FeatureEncoder, log: InteractionLog, signature: Signature = "serving_default"
) -> dict[str, np.ndarray]:
    """The rows of a log as the inputs of a request.

    Args:
        encoder: The model's encoder.
        log: Rows to ask for.
        signature: Which signature.

    Returns:
        Input name to NumPy array with leading dimension `len(log)`.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.data import TrainingLog
        >>> from tfmtl.schema import Schema, Task
        >>> rows = pa.table({"user_id": [7], "item_id": [1], "click": [1]})
        >>> train = TrainingLog(rows, Schema(tasks=[Task(name="click")]))
        >>> raw_request(FeatureEncoder.fit(train), train)["user_id"].tolist()
        [7]
    """
    request: dict[str, np.ndarray] = {}
    if log.user_ids is not None and log.item_ids is not None:
        request = {USER_ID: log.user_ids, ITEM_ID: log.item_ids}
    for feature in requested_features(encoder, signature):
        column = log.column(feature)
        if feature.kind == "numeric":
            request[feature.name] = _numbers(encoder, log, feature)
        elif feature.kind == "vector":
            request[feature.name] = vector_values(column, feature, "the log")
        elif takes_text(feature):
            request[feature.name] = _texts(canonical(column), feature)
        else:
            owner = vocabulary_owner(encoder.schema, feature)
            missing = MISSING_ID if id_dtype(encoder, owner) == tf.int64 else MISSING_TEXT
            if feature.is_list:
                values, lengths = list_values(column, feature)
                if missing == MISSING_ID:
                    values = values.cast(pa.int64())
                request[feature.name] = _padded(
                    _filled(values, missing), lengths, feature.max_length, missing
                )
            else:
                request[feature.name] = _filled(identifiers(column), missing)
    return request


def _numbers(encoder: FeatureEncoder, log: InteractionLog, feature: Feature) -> np.ndarray:
    numbers = canonical(log.column(feature)).cast(pa.float64()).to_numpy(zero_copy_only=False)
    if feature.fill is not None and log.in_table(feature):
        # `fill` is for entities of the table; the encoder gives the mean to those that are not.
        mean, _ = encoder.scales[feature.name]
        typical = np.expm1(mean) if feature.transform == "log" else mean
        numbers = np.where(log.entity_index(feature.side) < 0, typical, numbers)
    return numbers.astype(np.float32)


def _texts(values: pa.Array, feature: Feature) -> np.ndarray:
    if pa.types.is_large_list(values.type):
        values = pc.binary_join(values.cast(pa.list_(pa.string())), feature.separator or " ")
    return _filled(values.cast(pa.large_string()), "")


def _filled(values: pa.Array, missing: int | str) -> np.ndarray:
    if values.null_count == len(values):
        # Nothing but missing values has no type of its own.
        return np.full(len(values), missing, object if isinstance(missing, str) else np.int64)
    return values.fill_null(missing).to_numpy(zero_copy_only=False)


def _padded(flat: np.ndarray, lengths: np.ndarray, width: int, missing: int | str) -> np.ndarray:
    padded = np.full((len(lengths), width), missing, flat.dtype)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    padded[rows, np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)] = flat
    return padded
