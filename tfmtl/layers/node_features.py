"""Frozen features of every graph node of one side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.feature_embedding import FeatureEmbedding, PackedFeatures


@keras.utils.register_keras_serializable(package="tfmtl")
class NodeFeatures(keras.layers.Layer):
    """Features of all users (or items), gathered by encoded id inside the model.

    A sampled sub-graph carries node ids only; the features of a node are constants that live here,
    packed as the embedding layer wants them, so a batch stays small and a neighbour's features
    cost one gather.

    Args:
        num_nodes: Rows N of the tables, the vocabulary size of the id (row 0: unknown).
        num_ids: Packed categorical columns F.
        num_list_ids: Packed list columns P.
        num_numeric: Packed numeric columns W.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `int32 [B]`. Output: `PackedFeatures` with leading dimension B.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> from tfmtl.data.input_spec import InputSpec
        >>> age = InputSpec("age", "categorical", side="user", vocabulary_size=8, width=1)
        >>> nodes = NodeFeatures.from_columns(
        ...     FeatureEmbedding([age], dim=4), "user", {"age": np.array([0, 3, 5])})
        >>> nodes(tf.constant([2])).ids.numpy().tolist()  # offset by the padding row
        [[6]]
    """

    def __init__(
        self, num_nodes: int, *, num_ids: int, num_list_ids: int, num_numeric: int, **kwargs: Any
    ):
        super().__init__(trainable=False, **kwargs)
        self.num_nodes = int(num_nodes)
        self.num_ids = int(num_ids)
        self.num_list_ids = int(num_list_ids)
        self.num_numeric = int(num_numeric)

    @classmethod
    def from_columns(
        cls,
        embedding: FeatureEmbedding,
        side: str,
        columns: Mapping[str, np.ndarray],
        **kwargs: Any,
    ) -> NodeFeatures:
        """Builds the tables of `side` from encoded columns of shape `[N, ...]`."""
        with tf.device("cpu"):
            packed = embedding.pack(columns, side)
        layer = cls(
            packed.ids.shape[0],
            num_ids=packed.ids.shape[1],
            num_list_ids=packed.lists.shape[1],
            num_numeric=packed.numeric.shape[1],
            **kwargs,
        )
        with tf.name_scope(layer.name):
            layer.build([None])
        layer.set_weights([np.asarray(part) for part in packed])
        return layer

    def build(self, input_shape: Any) -> None:
        """Creates the frozen tables."""
        for name, width, dtype in (
            ("ids", self.num_ids, tf.int32),
            ("lists", self.num_list_ids, tf.int32),
            ("numeric", self.num_numeric, tf.float32),
        ):
            table = self.add_weight(
                name=name,
                shape=(self.num_nodes, width),
                dtype=dtype,
                initializer="zeros",
                trainable=False,
            )
            setattr(self, f"_{name}", table)
        super().build(input_shape)

    def call(self, ids: tf.Tensor) -> PackedFeatures:
        """Gathers the packed features of nodes `int32 [B]`."""
        return PackedFeatures(
            tf.gather(self._ids, ids), tf.gather(self._lists, ids), tf.gather(self._numeric, ids)
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        config.pop("trainable", None)
        return {
            **config,
            "num_nodes": self.num_nodes,
            "num_ids": self.num_ids,
            "num_list_ids": self.num_list_ids,
            "num_numeric": self.num_numeric,
        }
