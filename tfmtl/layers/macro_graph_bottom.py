"""Macro graph experts of all tasks, and what each task takes from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.gate import Gate
from tfmtl.layers.macro_aggregator import MacroAttention
from tfmtl.layers.macro_graph_expert import MacroGraphExpert
from tfmtl.layers.macro_rows import MacroRows
from tfmtl.layers.macro_weight import MacroWeight, MacroWeights
from tfmtl.layers.node_state_bottom import GRAPH_SIDES, Side

MacroEmbeddings = Literal["per_task", "shared_adapter"]


@keras.utils.register_keras_serializable(package="tfmtl")
class MacroGraphBottom(keras.layers.Layer):
    """One expert per task over embeddings of its own, mixed by one gate per task.

        m^t = MacroGraphExpert^t(e^t_u, e^t_i, M^t_U, M^t_I, alpha)
        z^t = sum_s gamma^t_s m^s,     gamma^t = softmax( W^t [ m^1 || ... || m^T ] + b^t )

    The macro weights alpha are the same for every task. A single task has no gate: z = m. Without
    neighbourhoods m^t = [ e^t_u || e^t_i ].

    Users and items have one table per side, `[vocabulary, T d]` for `per_task`, so that a batch
    costs one gather and one sparse gradient per side however many tasks there are. For
    `shared_adapter`, where T d numbers per user are too many, the tasks share d of them:

        e^t = e A^t,   A^t = I at the start

    Tables of macro nodes are small and always per task.

    Shapes: B rows, T tasks, d `dim`, G_U and G_I macro user and item nodes.

    Args:
        task_names: Names of the tasks.
        num_users: Size of the user vocabulary, id 0 included.
        num_items: Size of the item vocabulary, id 0 included.
        num_user_nodes: Number G_U of macro user nodes, without padding.
        num_item_nodes: Number G_I of macro item nodes, without padding.
        dim: Embedding width d.
        tau: Temperature of the macro weights.
        attention: See `MacroAggregator`.
        mask_padding: Whether macro node 0 is left out.
        neighborhoods: Whether there are experts that read macro neighbourhoods; without them the
            width of z is 2 d.
        gated: Whether tasks read one another's experts; z^t = m^t otherwise.
        stop_gradient_across_tasks: Whether a task trains the expert and the embeddings of no
            other task: it then sees their m^s without a gradient, in the sum and in the gate.
        embeddings: `per_task`, or `shared_adapter` for one table and a matrix A^t per task.
        l2: Penalty on the squared kernels of experts and gates.
        l2_embedding: Penalty on the squared rows of users and items that a batch looks up, averaged
            over its rows.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: ids of users and items `int [B]` each, `MacroRows`.
    Output: dict of z^t `float [B, 10 d]`, or `[B, 2 d]` without neighbourhoods, by task.

    Raises:
        ValueError: If there is no task or one twice, a number is not positive, or an option is
            unknown.

    References:
        MGOE Figure 2, macro graph bottom; Su et al., STEM: Unleashing the Power of Embeddings for
        Multi-task Recommendation (AAAI 2024), for `stop_gradient_across_tasks`.

    Deviations:
        The gates' form is our own: MGOE's figure shows that every gate reads all experts' outputs.
        `shared_adapter`, `stop_gradient_across_tasks` and what leaves parts out are additions.

    Example:
        >>> import tensorflow as tf
        >>> sizes = {"num_users": 5, "num_items": 6, "num_user_nodes": 2, "num_item_nodes": 3}
        >>> bottom = MacroGraphBottom(["click", "buy"], dim=4, **sizes)
        >>> users, items, recent = tf.zeros([1, 3]), tf.zeros([1, 4]), tf.zeros([1, 2], tf.int32)
        >>> rows = MacroRows(
        ...     items, users, users, items, tf.zeros([1, 2, 4]), tf.zeros([1, 2, 3]),
        ...     recent, recent, tf.zeros([1, 2]), recent, recent, tf.zeros([1, 2]),
        ...     user_group=tf.constant([2]), item_group=tf.constant([1]))
        >>> states = bottom(tf.constant([3]), tf.constant([4]), rows)
        >>> {task: state.shape.as_list() for task, state in states.items()}
        {'click': [1, 40], 'buy': [1, 40]}
    """

    def __init__(
        self,
        task_names: Sequence[str],
        *,
        num_users: int,
        num_items: int,
        num_user_nodes: int,
        num_item_nodes: int,
        dim: int = 10,
        tau: float = 1.3,
        attention: MacroAttention = "neighbor",
        mask_padding: bool = True,
        neighborhoods: bool = True,
        gated: bool = True,
        stop_gradient_across_tasks: bool = False,
        embeddings: MacroEmbeddings = "per_task",
        l2: float = 0.0,
        l2_embedding: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.task_names = list(task_names)
        if not self.task_names or len(set(self.task_names)) < len(self.task_names):
            raise ValueError(f"expected tasks of different names; received {list(task_names)}")
        sizes = {
            "num_users": int(num_users),
            "num_items": int(num_items),
            "num_user_nodes": int(num_user_nodes),
            "num_item_nodes": int(num_item_nodes),
            "dim": int(dim),
        }
        if min(sizes.values()) < 1:
            raise ValueError(f"expected positive numbers; received {sizes}")
        if embeddings not in get_args(MacroEmbeddings):
            raise ValueError(
                f"expected embeddings 'per_task' or 'shared_adapter'; received {embeddings!r}"
            )
        self.num_users = sizes["num_users"]
        self.num_items = sizes["num_items"]
        self.num_user_nodes = sizes["num_user_nodes"]
        self.num_item_nodes = sizes["num_item_nodes"]
        self.dim = sizes["dim"]
        self.tau = float(tau)
        self.attention = attention
        self.mask_padding = bool(mask_padding)
        self.neighborhoods = bool(neighborhoods)
        self.gated = bool(gated)
        self.stop_gradient_across_tasks = bool(stop_gradient_across_tasks)
        self.embeddings = embeddings
        self.l2 = float(l2)
        self.l2_embedding = float(l2_embedding)

    def build(self, input_shape: Any) -> None:
        """Creates tables, experts and gates."""
        width = len(self.task_names) * self.dim
        self._tables = {
            side: self._table(side, size, width if self.embeddings == "per_task" else self.dim)
            for side, size in (("user", self.num_users), ("item", self.num_items))
        }
        self._nodes = {
            side: self._table(f"{side}_nodes", size + 1, width)
            for side, size in (("user", self.num_user_nodes), ("item", self.num_item_nodes))
        }
        if self.embeddings == "shared_adapter":
            self._adapters = {
                side: [
                    self.add_weight(
                        name=f"{task}_{side}_adapter",
                        shape=(self.dim, self.dim),
                        initializer="identity",
                    )
                    for task in self.task_names
                ]
                for side in GRAPH_SIDES
            }
        self._weigh = MacroWeight(tau=self.tau, mask_padding=self.mask_padding, name="macro_weight")
        options: dict[str, Any] = {"l2": self.l2, "dtype": self.dtype_policy}
        self.experts = {
            task: MacroGraphExpert(
                attention=self.attention,
                mask_padding=self.mask_padding,
                name=f"{task}_expert",
                **options,
            )
            for task in (self.task_names if self.neighborhoods else [])
        }
        gated = self.gated and len(self.task_names) > 1
        self.gates = {
            task: Gate(
                len(self.task_names), expert_names=self.task_names, name=f"{task}_gate", **options
            )
            for task in (self.task_names if gated else [])
        }
        outputs = (10 if self.neighborhoods else 2) * width
        for layers, columns in ((self.experts, self.dim), (self.gates, outputs)):
            for layer in layers.values():
                with tf.name_scope(layer.name):
                    layer.build(tf.TensorShape([None, columns]))
        super().build(input_shape)

    def _table(self, name: str, rows: int, columns: int) -> tf.Variable:
        return self.add_weight(
            name=name,
            shape=(rows, columns),
            initializer=keras.initializers.RandomNormal(stddev=self.dim**-0.5 / 2),
        )

    def look_up(self, side: Side, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embeddings e^t of users or items by task: `ids` `int [...]` to `float [..., d]` each."""
        return self._by_task(side, self._gather(side, ids))

    def _gather(self, side: Side, ids: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(self._tables[side], ids), self.compute_dtype)

    def _by_task(self, side: Side, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        if self.embeddings == "per_task":
            parts = tf.split(rows, len(self.task_names), axis=-1)
        else:
            parts = [
                tf.einsum("...i,io->...o", rows, tf.cast(adapter, rows.dtype))
                for adapter in self._adapters[side]
            ]
        return dict(zip(self.task_names, parts, strict=True))

    def nodes_of(self, task: str) -> tuple[tf.Tensor, tf.Tensor]:
        """Embeddings M^t_U `[G_U + 1, d]` and M^t_I `[G_I + 1, d]` of a task's macro nodes."""
        if task not in self.task_names:
            raise ValueError(f"expected a task among {list(self.task_names)}; received {task!r}")
        start = self.task_names.index(task) * self.dim
        users, items = (
            tf.cast(self._nodes[side][:, start : start + self.dim], self.compute_dtype)
            for side in GRAPH_SIDES
        )
        return users, items

    def macro_weights(self, rows: MacroRows) -> MacroWeights:
        """Weights alpha of the macro neighbours of a batch's users and items."""
        return MacroWeights(
            user_items=self._weigh(rows.user_items),
            user_users=self._weigh(rows.user_users),
            item_users=self._weigh(rows.item_users),
            item_items=self._weigh(rows.item_items),
        )

    def call(
        self, user_ids: tf.Tensor, item_ids: tf.Tensor, rows: MacroRows
    ) -> dict[str, tf.Tensor]:
        """Maps ids `[B]` to z^t `[B, 10 d]` or `[B, 2 d]` by task."""
        user_rows, item_rows = self._gather("user", user_ids), self._gather("item", item_ids)
        if self.l2_embedding:
            looked_up = tf.cast(tf.concat([user_rows, item_rows], axis=-1), tf.float32)
            squares = tf.reduce_sum(tf.square(looked_up), axis=-1)
            self.add_loss(self.l2_embedding * tf.reduce_mean(squares))
        users, items = self._by_task("user", user_rows), self._by_task("item", item_rows)
        if self.neighborhoods:
            weights = self.macro_weights(rows)
            outputs = {
                task: expert(users[task], items[task], *self.nodes_of(task), weights)
                for task, expert in self.experts.items()
            }
        else:
            outputs = {
                task: tf.concat([users[task], items[task]], axis=-1) for task in self.task_names
            }
        if not self.gates:
            return outputs
        return {task: self._mixed(task, outputs) for task in self.task_names}

    def _mixed(self, task: str, outputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """The sum z of a task from the outputs m of all tasks."""
        seen = [
            tf.stop_gradient(outputs[other])
            if self.stop_gradient_across_tasks and other != task
            else outputs[other]
            for other in self.task_names
        ]
        weights = self.gates[task](tf.concat(seen, axis=-1))
        stacked = tf.stack(seen, axis=1)
        return tf.einsum("bs,bsx->bx", tf.cast(weights, stacked.dtype), stacked)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "task_names": self.task_names,
            "num_users": self.num_users,
            "num_items": self.num_items,
            "num_user_nodes": self.num_user_nodes,
            "num_item_nodes": self.num_item_nodes,
            "dim": self.dim,
            "tau": self.tau,
            "attention": self.attention,
            "mask_padding": self.mask_padding,
            "neighborhoods": self.neighborhoods,
            "gated": self.gated,
            "stop_gradient_across_tasks": self.stop_gradient_across_tasks,
            "embeddings": self.embeddings,
            "l2": self.l2,
            "l2_embedding": self.l2_embedding,
        }
