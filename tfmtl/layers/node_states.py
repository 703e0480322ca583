"""Precomputed graph states of every user and item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

STATES = "states"


class NodeStates(tf.Module):
    """Tables of final GNN states, looked up by encoded id in place of a sampled graph.

    Shapes: N nodes of a side (row 0: unknown id), d state width, B batch.

    Args:
        tables: `float32 [N, d]` per key `"<channel>/<user or item>"`, as
            `MultiChannelGNN.full_graph` returns them.
        name: Name of the module.

    Raises:
        ValueError: If a key does not end in `/user` or `/item`, or a table is not a matrix.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> states = NodeStates({"interaction/user": np.array([[0.0], [1.0]], np.float32)})
        >>> rows = states({"user_id": tf.constant([1, 1, 0])})
        >>> rows["states"]["interaction/user"].numpy().ravel().tolist()
        [1.0, 1.0, 0.0]
    """

    def __init__(self, tables: Mapping[str, np.ndarray], name: str = "node_states"):
        super().__init__(name=name)
        for key, table in tables.items():
            if key.rpartition("/")[2] not in ("user", "item") or np.ndim(table) != 2:
                raise ValueError(
                    "expected tables [N, d] keyed '<channel>/user' or '<channel>/item'; "
                    f"received {key!r} of shape {np.shape(table)}"
                )
        # An input pipeline looks states up on the host, and cannot read a GPU's variables.
        with tf.device("cpu"):
            self.tables = {
                key: tf.Variable(
                    table, trainable=False, dtype=tf.float32, name=key.replace("/", "_")
                )
                for key, table in tables.items()
            }

    def __call__(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `features` with `"states"`: key to `float32 [B, d]`."""
        ids = {"user": "user_id", "item": "item_id"}
        looked_up = {
            key: tf.gather(table, features[ids[key.rpartition("/")[2]]])
            for key, table in self.tables.items()
        }
        return {**features, STATES: looked_up}
