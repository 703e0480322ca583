"""A sparse mixture of experts that the task sentence steers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.chosen_experts import ChosenExperts
from tfmtl.layers.dropout import Dropout
from tfmtl.layers.expert_dispatch import Dispatch
from tfmtl.layers.recording import Recording
from tfmtl.layers.report_routing import report_routing
from tfmtl.layers.rms_norm import RMSNorm
from tfmtl.layers.routed_experts import RoutedExperts
from tfmtl.layers.top_k_router import Routing, TopKRouter

_ROUTINGS = ("task_sentence", "token", "gated_sentence", "sentence", "task")


@keras.utils.register_keras_serializable(package="tfmtl")
class TaskSentenceMoE(keras.layers.Layer):
    """Feed-forward experts on a row's tokens, with a residual; k of E experts work on each token.

        X̃ = RMSNorm(X)
        X <- X + Dropout( sum_{e in top-k(r)} p_e Expert_e(X̃) )
        loss <- loss + w_bal L_bal + w_z L_z

    The router's state r depends on `routing`, with s the second input:

    - `"task_sentence"`: r = s, the sentence of main and auxiliary tasks. All tokens of a row go to
      the same experts, and so do all rows of one sentence at inference.
    - `"token"`: r = x̃, one decision per token.
    - `"gated_sentence"`: r = [x̃_1 ‖ ... ‖ x̃_L] ⊙ (s W_g), one decision per row.
    - `"sentence"`: r = mean_l x̃_l, one decision per row, without the tasks.
    - `"task"`: r = s, where s embeds the main task alone (`TaskSentence.embed_main`).

    `fit` and `evaluate` report `balance_loss`, `z_loss`, the shares of the decisions that the least
    and the most visited expert received (`smallest_expert_load`, `largest_expert_load`), and, with
    a capacity, `dropped_share`, each after the layer's name.

    Shapes: B rows, L tokens per row, D width of a token, S width of the task input, E experts.

    Args:
        num_experts: Number of experts E.
        routing: What decides on the experts, as above.
        k: Experts chosen for each decision.
        jitter: Half-width of the noise on the router's state in training.
        capacity_factor: Capacity of `RoutedExperts`; None drops nothing. Where rows share experts
            by task, a capacity drops tokens of frequent tasks.
        hidden: Width of the experts' hidden layer; None for D.
        dropout: Share of the experts' outputs dropped in training.
        balance_weight: Weight w_bal of the load balance loss.
        z_weight: Weight w_z of the loss on the size of the logits.
        dispatch: See `RoutedExperts`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: A pair of tokens `float [B, L, D]` and task input s `float [B, S]`. Routings
            `"token"` and `"sentence"` do not read s.

    Output shape: `float [B, L, D]`.

    Raises:
        ValueError: If `routing` is unknown, or an argument is one that `TopKRouter`,
            `RoutedExperts` or `Dropout` refuse.

    References:
        GRec (CIKM 2023), Task-Sentence MoE in the released code.

    Deviations:
        The released code routes by token; the sentence is the default here, as the paper describes
        it. `"gated_sentence"` gates all tokens by a linear map of s, where its predecessor gated
        three of them by a table of their joint width: a form of our own.

    Example:
        >>> import tensorflow as tf
        >>> layer = TaskSentenceMoE(8, k=2)
        >>> layer((tf.random.normal([4, 5, 16]), tf.random.normal([4, 6]))).shape
        TensorShape([4, 5, 16])
        >>> len(layer.losses)
        1
    """

    def __init__(
        self,
        num_experts: int,
        *,
        routing: str = "task_sentence",
        k: int = 1,
        jitter: float = 0.1,
        capacity_factor: float | None = None,
        hidden: int | None = None,
        dropout: float = 0.0,
        balance_weight: float = 1e-4,
        z_weight: float = 1e-4,
        dispatch: Dispatch = "auto",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_experts = int(num_experts)
        self.routing = routing
        self.k = int(k)
        self.jitter = float(jitter)
        self.capacity_factor = None if capacity_factor is None else float(capacity_factor)
        self.hidden = None if hidden is None else int(hidden)
        self.dropout = float(dropout)
        self.balance_weight = float(balance_weight)
        self.z_weight = float(z_weight)
        self.dispatch: Dispatch = dispatch
        if routing not in _ROUTINGS:
            raise ValueError(
                f"expected a routing of {list(_ROUTINGS)}; received {routing!r}: take "
                "'task_sentence' unless you compare them"
            )

    def build(self, input_shape: Any) -> None:
        """Creates the norm's scale, the router and the experts."""
        tokens, tasks = (tf.TensorShape(shape) for shape in input_shape)
        width = int(tokens[-1])
        self._norm = RMSNorm(dtype=self.dtype_policy, name="norm")
        self._router = TopKRouter(
            self.num_experts, k=self.k, jitter=self.jitter, dtype=self.dtype_policy, name="router"
        )
        self._experts = RoutedExperts(
            self.num_experts,
            [width if self.hidden is None else self.hidden, width],
            capacity_factor=self.capacity_factor,
            dispatch=self.dispatch,
            dtype=self.dtype_policy,
            name="experts",
        )
        self._drop = Dropout(self.dropout, dtype=self.dtype_policy)
        state = width if self.routing in ("token", "sentence") else int(tasks[-1])
        if self.routing == "gated_sentence":
            state = int(tokens[-2]) * width
            self._gate = keras.layers.Dense(
                state, use_bias=False, dtype=self.dtype_policy, name="gate"
            )
            with tf.name_scope(self._gate.name):
                self._gate.build([None, int(tasks[-1])])
        for layer, size in (
            (self._norm, width),
            (self._router, state),
            (self._experts, width),
        ):
            with tf.name_scope(layer.name):
                layer.build([None, size])
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """Maps tokens `[B, L, D]` and task input `[B, S]` to `[B, L, D]`."""
        tokens, tasks = inputs
        normed = self._norm(tokens)
        routing = self._router(self._state(normed, tasks), training=training)
        self.add_loss(self.balance_weight * routing.balance_loss + self.z_weight * routing.z_loss)
        self._report(routing)
        mixed = self._experts(normed, routing.experts, routing.weights)
        return tokens + self._drop(mixed, training=training)

    def choose(self, tasks: tf.Tensor) -> ChosenExperts:
        """The experts of one task as a module of its own, where the tasks alone decide.

        Args:
            tasks: The task input of one row, `float [1, S]`.

        Returns:
            A copy of the experts chosen, for `call_with`.

        Raises:
            ValueError: If the routing reads tokens.
        """
        if self.routing not in ("task_sentence", "task"):
            raise ValueError(
                "expected routing 'task_sentence' or 'task', by which a task always has the same "
                f"experts; received {self.routing!r}: use the model of all tasks"
            )
        routing = self._router(tasks)
        return ChosenExperts(self._experts, routing.experts[0], routing.weights[0])

    def call_with(self, tokens: tf.Tensor, experts: ChosenExperts) -> tf.Tensor:
        """Maps tokens `[B, L, D]` to `[B, L, D]` as `call` does at inference, by given experts."""
        return tokens + experts(self._norm(tokens))

    def _report(self, routing: Routing) -> None:
        shares = tf.reduce_mean(tf.one_hot(routing.experts, self.num_experts), axis=-2)
        Recording.show_gate(
            [str(expert) for expert in range(self.num_experts)],
            tf.reshape(shares, [-1, self.num_experts]),
        )
        report_routing(self, [routing])
        if self.capacity_factor is not None:
            dropped = self._experts.dropped_share(routing.experts)
            self.add_metric(dropped, name=f"{self.name}_dropped_share")

    def _state(self, normed: tf.Tensor, tasks: tf.Tensor) -> tf.Tensor:
        if self.routing == "token":
            return normed
        if self.routing == "sentence":
            return tf.reduce_mean(normed, axis=1)
        if self.routing == "gated_sentence":
            gate = self._gate(tasks)
            return tf.reshape(normed, [-1, gate.shape[-1]]) * gate
        return tasks

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "routing": self.routing,
            "k": self.k,
            "jitter": self.jitter,
            "capacity_factor": self.capacity_factor,
            "hidden": self.hidden,
            "dropout": self.dropout,
            "balance_weight": self.balance_weight,
            "z_weight": self.z_weight,
            "dispatch": self.dispatch,
        }
