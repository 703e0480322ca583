"""The feature encoder as TensorFlow ops, for a model that takes raw ids and features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import tensorflow as tf

from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.data.vocabulary import Vocabulary
from tfmtl.data.vocabulary_fitting import vocabulary_owner
from tfmtl.export.raw_inputs import IdLookup, takes_text
from tfmtl.schema import ITEM_ID, USER_ID, Feature

_SIDES: dict[Literal["user", "item"], str] = {"user": USER_ID, "item": ITEM_ID}


class GraphEncoder(tf.Module):
    """Encodes raw ids and features inside a SavedModel as `FeatureEncoder.encode` does outside.

    Lookup tables, scales and statistics are attributes of this module, so that a SavedModel that
    tracks it carries them. An unknown id is encoded as 0, or hashed where its vocabulary has
    buckets, and an unknown user or item finds the statistics and features of an unknown entity; a
    missing number is filled as the schema says, or is the training mean, and so is one that
    `transform: log` cannot take; a vector with a number that is not finite is zeros.

    Args:
        encoder: The encoder to reproduce.
        name: Name of the module.

    Example:
        >>> import pyarrow as pa, tensorflow as tf
        >>> from tfmtl.data import TrainingLog
        >>> from tfmtl.schema import Schema, Task
        >>> rows = pa.table({"user_id": [7, 9], "item_id": [1, 2], "click": [1, 0]})
        >>> train = TrainingLog(rows, Schema(tasks=[Task(name="click")]))
        >>> graph_encoder = GraphEncoder(FeatureEncoder.fit(train))
        >>> ids = {"user_id": [9, 8], "item_id": [1, 1]}
        >>> raw = {name: tf.constant(values, tf.int64) for name, values in ids.items()}
        >>> graph_encoder.encode(raw)["user_id"].numpy().tolist()
        [2, 0]
    """

    def __init__(self, encoder: FeatureEncoder, name: str = "encoder"):
        super().__init__(name=name)
        self._schema = encoder.schema
        self._scales = encoder.scales
        self._vocabularies = {
            key: IdLookup(vocabulary) for key, vocabulary in encoder.vocabularies.items()
        }
        self._statistics = {}
        self._statistics_tables = {}
        if encoder.statistics is not None:
            for entity, (keys, table) in encoder.statistics.tables.items():
                self._statistics[entity] = IdLookup(Vocabulary(keys))
                self._statistics_tables[entity] = tf.Variable(table, trainable=False)
        self._entities = {}
        self._entity_columns = {}
        self._entity_statistics = {}
        if encoder.schema.has_ids:
            for side in _SIDES:
                entities = encoder.entity_table(side)
                self._entities[side] = IdLookup(Vocabulary(entities.keys))
                self._entity_columns[side] = {
                    column: tf.Variable(values, trainable=False)
                    for column, values in entities.columns.items()
                }
                self._entity_statistics[side] = {
                    entity: tf.Variable(values, trainable=False)
                    for entity, values in entities.statistics_rows.items()
                }

    def encode(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Encodes a request that brings every feature.

        Args:
            raw: Tensors as `input_specs(encoder, "serving_default")` describes them.

        Returns:
            The model's inputs.
        """
        features = {}
        if self._schema.has_ids:
            for name in _SIDES.values():
                features[name] = self._vocabularies[name].lookup(raw[name])
        for feature in self._schema.features:
            features[feature.name] = self._encode_feature(feature, raw[feature.name])
        if self._statistics:
            rows = {entity: table.lookup(raw[entity]) for entity, table in self._statistics.items()}
            features["statistics"] = self._statistics_of(rows)
        return features

    def encode_by_id(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Encodes a request that brings ids and context features only.

        Args:
            raw: Tensors as `input_specs(encoder, "by_id")` describes them.

        Returns:
            The model's inputs, those of users and items from the training rows and the users' and
            items' own tables.
        """
        features, rows = {}, {}
        for side, name in _SIDES.items():
            place = self._entities[side].lookup(raw[name])
            for column, values in self._entity_columns[side].items():
                features[column] = tf.gather(values, place)
            for entity, values in self._entity_statistics[side].items():
                rows[entity] = tf.gather(values, place)
        for feature in self._schema.features_of("context"):
            features[feature.name] = self._encode_feature(feature, raw[feature.name])
        if self._statistics:
            for entity, table in self._statistics.items():
                if entity not in rows:
                    rows[entity] = table.lookup(raw[entity])
            features["statistics"] = self._statistics_of(rows)
        return features

    def _statistics_of(self, rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.concat(
            [tf.gather(table, rows[entity]) for entity, table in self._statistics_tables.items()],
            axis=-1,
        )

    def _encode_feature(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        if feature.kind == "numeric":
            return self._encode_number(feature, values)
        if feature.kind == "vector":
            whole = tf.reduce_all(tf.math.is_finite(values), axis=-1, keepdims=True)
            return tf.where(whole, values, tf.zeros_like(values))
        table = self._vocabularies[vocabulary_owner(self._schema, feature)]
        if not takes_text(feature):
            return table.lookup(values)
        if feature.kind == "text":
            tokens = tf.strings.split(
                tf.strings.regex_replace(_lower_case(values), r"[^\pL\pN]+", " ")
            )
        else:
            tokens = tf.strings.split(values, feature.separator)
            tokens = tf.ragged.boolean_mask(tokens, tokens != "")
        tokens = tokens[:, -feature.max_length :]
        if table.key_dtype == tf.int64:
            tokens = tf.ragged.map_flat_values(tf.strings.to_number, tokens, tf.int64)
        ids = tf.ragged.map_flat_values(table.lookup, tokens)
        return ids.to_tensor(shape=[None, feature.max_length])

    def _encode_number(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        mean, deviation = self._scales[feature.name]
        numbers = tf.cast(values, tf.float64)
        if feature.fill is not None:
            filling = tf.constant(feature.fill, tf.float64)
            numbers = tf.where(tf.math.is_finite(numbers), numbers, filling)
        if feature.transform == "log":
            numbers = tf.math.log1p(numbers)
        scaled = (numbers - mean) / deviation
        scaled = tf.where(tf.math.is_finite(scaled), scaled, tf.zeros_like(scaled))
        return tf.cast(scaled, tf.float32)


def _lower_case(texts: tf.Tensor) -> tf.Tensor:
    """Lower case of single characters, as Arrow has it.

    TensorFlow alone would make two characters of a dotted capital I, and of a capital sigma another
    letter at the end of a word.
    """
    for upper, lower in (
        ("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "i"),
        ("Σ", "\N{GREEK SMALL LETTER SIGMA}"),
    ):
        texts = tf.strings.regex_replace(texts, upper, lower)
    return tf.strings.lower(texts, encoding="utf-8")
