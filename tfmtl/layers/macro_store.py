"""The tables of a macro graph inside a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfmtl.graph.macro_graph import VERSIONED, MacroGraph
from tfmtl.graph.training_versions import VERSION
from tfmtl.layers.macro_rows import MacroRows
from tfmtl.schema import ITEM_ID, USER_ID

_BLOCK_ROWS = 8192


class MacroStore:
    """Frozen tables from which a batch of ids gathers its macro neighbourhoods.

    A request stays as small as its ids, whatever the number of macro nodes: the rows are gathered
    inside the model, one gather per side, and become float32 there. The tables are no weights:
    neither checkpoints nor optimisers see them, and an export carries those that it reads.

    Shapes: B rows, G_U and G_I macro nodes, T tasks, L recent neighbours.

    Args:
        graph: The macro graph; with all its versions for training, see `training_versions`.

    Call arguments: features with `user_id` and `item_id` `int32 [B]`, and, for training rows,
        `macro_version` `int32 [B]`; without it, or where the graph has one version, version 0 is
        read.
    Output: `MacroRows`.

    Raises:
        ValueError: If a batch lacks the ids.

    Example:
        >>> from tfmtl.graph import MacroConfig, interaction_stores, macro_graph_of_stores
        >>> stores = interaction_stores(
        ...     np.array([1, 2]), np.array([1, 2]), np.array([1, 1], np.uint8), 3, 3)
        >>> scores = np.array([0, 1], np.float32)
        >>> graph = macro_graph_of_stores(stores, scores, MacroConfig(user_nodes=2, item_nodes=1))
        >>> ids = tf.constant([1, 0])
        >>> rows = MacroStore(graph)({"user_id": ids, "item_id": ids})
        >>> np.expm1(rows.user_items).round(2).tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """

    def __init__(self, graph: MacroGraph):
        self.num_tasks = graph.num_tasks
        self.num_user_nodes = graph.num_user_nodes
        self.num_item_nodes = graph.num_item_nodes
        self.num_users = graph.num_users
        self.num_items = graph.num_items
        self._has_versions = graph.num_versions > 1
        self._tables = {
            name: _frozen(name, _versions_joined(getattr(graph, name))) for name in VERSIONED
        }
        self._log_scores = _frozen("log_scores", np.log1p(graph.scores))

    def __call__(self, features: Mapping[str, Any]) -> MacroRows:
        """Gathers the macro neighbourhoods of a batch."""
        absent = [name for name in (USER_ID, ITEM_ID) if name not in features]
        if absent:
            raise ValueError(
                f"the batch lacks {absent}, by which macro neighbourhoods are found; it has "
                f"{sorted(features)}: encode a log with users and items"
            )
        of_items, of_users = self.num_item_nodes + 1, self.num_user_nodes + 1
        user, item = (
            self._places(features, name, count)
            for name, count in ((USER_ID, self.num_users), (ITEM_ID, self.num_items))
        )
        user_items, user_users, user_tasks = tf.split(
            self._gathered("user_rows", user), [of_items, of_users, self.num_tasks * of_items], 1
        )
        item_users, item_items, item_tasks = tf.split(
            self._gathered("item_rows", item), [of_users, of_items, self.num_tasks * of_users], 1
        )
        item_bits = tf.gather(self._tables["recent_item_behaviors"], user)
        user_bits = tf.gather(self._tables["recent_user_behaviors"], item)
        return MacroRows(
            user_items=user_items,
            user_users=user_users,
            item_users=item_users,
            item_items=item_items,
            user_preferences=tf.reshape(user_tasks, [-1, self.num_tasks, of_items]),
            item_preferences=tf.reshape(item_tasks, [-1, self.num_tasks, of_users]),
            recent_items=tf.gather(self._tables["recent_items"], user),
            recent_item_behaviors=item_bits,
            recent_item_scores=tf.gather(self._log_scores, item_bits),
            recent_users=tf.gather(self._tables["recent_users"], item),
            recent_user_behaviors=user_bits,
            recent_user_scores=tf.gather(self._log_scores, user_bits),
            user_group=tf.gather(self._tables["user_groups"], user),
            item_group=tf.gather(self._tables["item_groups"], item),
        )

    def _places(self, features: Mapping[str, Any], name: str, count: int) -> tf.Tensor:
        ids = tf.cast(features[name], tf.int64)
        if VERSION not in features or not self._has_versions:
            return ids
        return tf.cast(features[VERSION], tf.int64) * count + ids

    def _gathered(self, name: str, places: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(self._tables[name], places), tf.float32)


def _versions_joined(values: np.ndarray) -> np.ndarray:
    """`[V, N, ...]` as `[V N, ...]`: one gather finds a row of any version."""
    return values.reshape(-1, *values.shape[2:])


def _frozen(name: str, values: np.ndarray) -> tf.Variable:
    # A GPU may have no gather of small integers.
    dtype = tf.int32 if values.dtype.kind in "iu" else tf.as_dtype(values.dtype)
    table = tf.Variable(lambda: tf.zeros(values.shape, dtype), trainable=False, name=name)
    # Block by block: TensorFlow would hold a second copy of a whole array while it is taken over.
    for first in range(0, len(values), _BLOCK_ROWS):
        block = tf.cast(values[first : first + _BLOCK_ROWS], dtype)
        table.scatter_update(tf.IndexedSlices(block, tf.range(first, first + len(block))))
    return table
