"""The last network of a task that knows what users and items prefer in it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.dice import Dice
from tfmtl.layers.dropout import Dropout
from tfmtl.layers.information_transfer import InformationTransfer
from tfmtl.layers.macro_weight import MacroWeight


@keras.utils.register_keras_serializable(package="tfmtl")
class MacroPredictionTower(keras.layers.Layer):
    """Tower over the fused state f, the task's macro preferences and the previous task's state.

        pi_u = sum_q softmax_q( log(P_U[u, q] + 1) / tau ) M_I[q],   pi_i likewise of P_I and M_U
        hit = log(1 + P_U[u, a(i)])          a(i): the macro node of the item
        h = Dice( W_1 [ f || pi_u || pi_i || hit ] + b_1 )
        h = AIT(W_p h_previous, h)           with `transfer`
        logit = w_2.h + b_2

    A user without any edge of the task has a learned vector for pi_u, and so has an item for pi_i.
    AIT is `InformationTransfer`.

    Shapes: B rows, F fused width, d node width, G_U and G_I macro user and item nodes, H `units`.

    Args:
        units: Width H of the hidden state.
        node_dim: Width d of the macro nodes.
        tau: Temperature of the preferences.
        preferences: Whether pi_u and pi_i are read.
        hit: Whether the user's preference for the item's own macro node is read.
        transfer: Whether the hidden state of the previous task is read.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: f `float [B, F]`; log(1 + P_U) `float [B, G_I + 1]` and log(1 + P_I)
    `float [B, G_U + 1]` of the task, column 0 padding; the task's macro nodes M_I
    `float [G_I + 1, d]` and M_U `float [G_U + 1, d]`; the items' macro nodes `int [B]`; and the
    previous task's hidden state `float [B, H]`, which is passed over without `transfer`.
    Output: logit `float32 [B]` and hidden state h `float [B, H]`.

    Raises:
        ValueError: If a width or `tau` is not positive, macro nodes have another width than
            `node_dim`, or `transfer` has no previous state to read.

    References:
        MGOE Figure 2, macro task table, towers and their Info arrows; AITM (KDD 2021) for AIT.

    Deviations:
        The form is our own: MGOE's figure shows that the table and the previous tower reach each
        tower.

    Example:
        >>> import tensorflow as tf
        >>> tower = MacroPredictionTower(8, node_dim=4)
        >>> logit, hidden = tower(
        ...     tf.ones([3, 16]), tf.zeros([3, 6]), tf.zeros([3, 5]),
        ...     tf.ones([6, 4]), tf.ones([5, 4]), tf.constant([1, 5, 2]))
        >>> logit.shape, hidden.shape
        (TensorShape([3]), TensorShape([3, 8]))
    """

    def __init__(
        self,
        units: int = 80,
        *,
        node_dim: int = 10,
        tau: float = 1.0,
        preferences: bool = True,
        hit: bool = True,
        transfer: bool = False,
        dropout: float = 0.0,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = int(units)
        self.node_dim = int(node_dim)
        self.tau = float(tau)
        if min(self.units, self.node_dim) < 1 or not self.tau > 0:
            raise ValueError(
                "expected positive units, node_dim and tau; "
                f"received units={units}, node_dim={node_dim}, tau={tau}"
            )
        self.preferences = bool(preferences)
        self.hit = bool(hit)
        self.transfer = bool(transfer)
        self.dropout = float(dropout)
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates the hidden layer, the logit and what the options ask for."""
        width = int(tf.TensorShape(input_shape)[-1]) + self.hit
        if self.preferences:
            width += 2 * self.node_dim
            self._weigh = MacroWeight(tau=self.tau, name="preference")
            self._no_preference = {
                side: self.add_weight(
                    name=f"no_{side}_preference",
                    shape=(self.node_dim,),
                    initializer=keras.initializers.RandomNormal(stddev=self.node_dim**-0.5 / 2),
                )
                for side in ("user", "item")
            }
        self._hidden = self._dense("hidden", self.units)
        self._activation = Dice(dtype=self.dtype_policy, name="activation")
        # Half precision has too few digits for a log loss near probability 0 or 1.
        self._logit = self._dense("logit", 1, dtype="float32")
        state = tf.TensorShape([None, self.units])
        sublayers: list[tuple[keras.layers.Layer, tf.TensorShape]] = [
            (self._hidden, tf.TensorShape([None, width])),
            (self._activation, state),
            (self._logit, state),
        ]
        if self.transfer:
            self._passed_on = self._dense("passed_on", self.units, use_bias=False)
            self._information = InformationTransfer(
                l2=self.l2, dtype=self.dtype_policy, name="information"
            )
            sublayers += [(self._passed_on, state), (self._information, state)]
        for layer, shape in sublayers:
            with tf.name_scope(layer.name):
                layer.build(shape)
        self._drop = Dropout(self.dropout, dtype=self.dtype_policy)
        super().build(input_shape)

    def _dense(self, name: str, units: int, **options: Any) -> keras.layers.Dense:
        return keras.layers.Dense(
            units,
            kernel_regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            name=name,
            **{"dtype": self.dtype_policy, **options},
        )

    def call(
        self,
        fused: tf.Tensor,
        user_preferences: tf.Tensor,
        item_preferences: tf.Tensor,
        item_nodes: tf.Tensor,
        user_nodes: tf.Tensor,
        item_group: tf.Tensor,
        previous: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the logit `float32 [B]` and h `float [B, H]`."""
        if self.transfer and previous is None:
            raise ValueError(
                f"expected the previous task's hidden state in {self.name!r}, which has "
                "transfer=True; received None: pass `previous`, or set transfer=False for the "
                "first task"
            )
        parts = [fused]
        if self.preferences:
            parts += [
                self._preference("user", user_preferences, item_nodes),
                self._preference("item", item_preferences, user_nodes),
            ]
        if self.hit:
            hit = tf.gather(user_preferences, item_group, batch_dims=1)
            parts.append(hit[:, tf.newaxis])
        # Keras casts the first argument alone to the layer's dtype.
        inputs = tf.concat([tf.cast(part, fused.dtype) for part in parts], axis=-1)
        hidden = self._activation(self._hidden(inputs), training=training)
        if self.dropout:
            hidden = self._drop(hidden, training=training)
        if self.transfer:
            hidden = self._information(self._passed_on(previous), hidden)
        logit = tf.squeeze(self._logit(tf.cast(hidden, tf.float32)), axis=-1)
        return logit, hidden

    def _preference(self, side: str, log_counts: tf.Tensor, nodes: tf.Tensor) -> tf.Tensor:
        """The mixture pi of users or items, `[B, d]`."""
        if nodes.shape[-1] != self.node_dim:
            raise ValueError(
                f"expected macro nodes of width {self.node_dim}; received {nodes.shape}: "
                "set node_dim to the width of the macro nodes"
            )
        preference = tf.matmul(tf.cast(self._weigh(log_counts), nodes.dtype), nodes)
        known = tf.reduce_any(log_counts[:, 1:] > 0, axis=1, keepdims=True)
        return tf.where(known, preference, tf.cast(self._no_preference[side], nodes.dtype))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "node_dim": self.node_dim,
            "tau": self.tau,
            "preferences": self.preferences,
            "hit": self.hit,
            "transfer": self.transfer,
            "dropout": self.dropout,
            "l2": self.l2,
        }
