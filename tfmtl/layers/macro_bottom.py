"""From ids to what the macro graph and the latest neighbours say about a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras as keras

from tfmtl.graph.macro_graph import MacroGraph
from tfmtl.layers.macro_aggregator import MacroAttention
from tfmtl.layers.macro_graph_bottom import MacroEmbeddings, MacroGraphBottom
from tfmtl.layers.macro_rows import MacroRows
from tfmtl.layers.macro_store import MacroStore
from tfmtl.layers.micro_neighborhood import MicroNeighborhood
from tfmtl.schema import ITEM_ID, USER_ID


class MacroStates(NamedTuple):
    """What a macro bottom gives for a batch.

    Args:
        rows: Macro neighbourhoods of the rows.
        by_task: z^t `float [B, 10 d]` by task, or `[B, 2 d]` without neighbourhoods.
        micro: r `float [B, 4 d]`, or None without latest neighbours.

    Example:
        >>> MacroStates._fields
        ('rows', 'by_task', 'micro')
    """

    rows: MacroRows
    by_task: dict[str, tf.Tensor]
    micro: tf.Tensor | None

    @property
    def parts(self) -> list[tf.Tensor]:
        """Everything that a head reads: z^1, ..., z^T and r."""
        return [*self.by_task.values(), *([] if self.micro is None else [self.micro])]


class MacroBottom(keras.layers.Layer):
    """A macro graph bottom over a frozen store, with the latest neighbours beside it.

        z^t = MacroGraphBottom(u, i, N)^t
        r = [ r_u || r_i ],   r_u = MicroNeighborhood(e_item(R_u) + e_beh(C), e_item(i)), r_i alike

    R_u are the latest items of the user, C the behaviours on those edges; their tables are shared
    by the tasks.

    Args:
        task_names: Names of the tasks.
        graph: The macro graph.
        dim: Embedding width d.
        tau: Temperature of the macro weights and of the latest neighbours' scores.
        attention: See `MacroAggregator`.
        mask_padding: Whether macro node 0 is left out.
        neighborhoods: Whether experts read macro neighbourhoods; without, they hold the embeddings
            of the row's user and item alone.
        micro: Whether latest neighbours are read.
        stop_gradient_across_tasks: See `MacroGraphBottom`.
        embeddings: See `MacroGraphBottom`.
        l2: Penalty on the squared kernels.
        l2_embedding: Penalty on the squared embeddings of a batch.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: features as `MacroStore` reads them. Output: `MacroStates`.

    References:
        MGOE (KDD 2026), macro graph bottom and micro neighbour representation.

    Example:
        >>> import numpy as np
        >>> from tfmtl.graph import MacroConfig, interaction_stores, macro_graph_of_stores
        >>> stores = interaction_stores(
        ...     np.array([1, 2]), np.array([1, 2]), np.array([1, 1], np.uint8), 3, 3)
        >>> scores = np.array([0, 1], np.float32)
        >>> graph = macro_graph_of_stores(stores, scores, MacroConfig(user_nodes=2, item_nodes=1))
        >>> ids = tf.constant([1, 0])
        >>> states = MacroBottom(["click"], graph, dim=4)({"user_id": ids, "item_id": ids})
        >>> [part.shape.as_list() for part in states.parts]
        [[2, 40], [2, 16]]
    """

    def __init__(
        self,
        task_names: Sequence[str],
        graph: MacroGraph,
        *,
        dim: int = 10,
        tau: float = 1.3,
        attention: MacroAttention = "neighbor",
        mask_padding: bool = True,
        neighborhoods: bool = True,
        micro: bool = True,
        stop_gradient_across_tasks: bool = False,
        embeddings: MacroEmbeddings = "per_task",
        l2: float = 0.0,
        l2_embedding: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.store = MacroStore(graph)
        self.graph_bottom = MacroGraphBottom(
            task_names,
            num_users=graph.num_users,
            num_items=graph.num_items,
            num_user_nodes=graph.num_user_nodes,
            num_item_nodes=graph.num_item_nodes,
            dim=dim,
            tau=tau,
            attention=attention,
            mask_padding=mask_padding,
            neighborhoods=neighborhoods,
            stop_gradient_across_tasks=stop_gradient_across_tasks,
            embeddings=embeddings,
            l2=l2,
            l2_embedding=l2_embedding,
            name="macro_graph_bottom",
        )
        self.micro = bool(micro)
        if not self.micro:
            return
        self._tables = {
            name: keras.layers.Embedding(
                size,
                dim,
                embeddings_initializer=keras.initializers.RandomNormal(stddev=dim**-0.5 / 2),
                name=f"recent_{name}",
            )
            for name, size in (
                ("users", graph.num_users),
                ("items", graph.num_items),
                ("behaviors", len(graph.scores)),
            )
        }
        self._neighborhoods = {
            name: MicroNeighborhood(2 * dim, tau=tau, l2=l2, name=f"recent_{name}_neighborhood")
            for name in ("items", "users")
        }

    def call(self, features: Mapping[str, Any], training: bool | None = None) -> MacroStates:
        """States of the rows' users and items."""
        # Keras hands it on to a store that takes ids alone.
        del training
        rows = self.store(features)
        users, items = features[USER_ID], features[ITEM_ID]
        by_task = self.graph_bottom(users, items, rows)
        if not self.micro:
            return MacroStates(rows, by_task, None)
        of_user = self._neighborhood(
            "items", rows.recent_items, rows.recent_item_behaviors, rows.recent_item_scores, items
        )
        of_item = self._neighborhood(
            "users", rows.recent_users, rows.recent_user_behaviors, rows.recent_user_scores, users
        )
        return MacroStates(rows, by_task, tf.concat([of_user, of_item], axis=-1))

    def _neighborhood(
        self,
        name: str,
        neighbors: tf.Tensor,
        behaviors: tf.Tensor,
        log_scores: tf.Tensor,
        target: tf.Tensor,
    ) -> tf.Tensor:
        vectors = self._tables[name](neighbors) + self._tables["behaviors"](behaviors)
        return self._neighborhoods[name](
            vectors, self._tables[name](target), log_scores, neighbors > 0
        )
