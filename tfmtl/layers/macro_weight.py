"""How much each macro node counts among a row's neighbours."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras as keras


class MacroWeights(NamedTuple):
    """Weights alpha of the macro neighbours of a batch's users and items.

    Shapes: B rows, G_U and G_I macro user and item nodes; column 0 is padding.

    Args:
        user_items: alpha_U1 `float32 [B, G_I + 1]`, of the user's items.
        user_users: alpha_U2 `float32 [B, G_U + 1]`, of the users of the user's items.
        item_users: alpha_I1 `float32 [B, G_U + 1]`, of the item's users.
        item_items: alpha_I2 `float32 [B, G_I + 1]`, of the items of the item's users.

    Example:
        >>> import tensorflow as tf
        >>> weigh = MacroWeight()
        >>> weights = MacroWeights(*(weigh(tf.zeros([1, nodes + 1])) for nodes in (4, 2, 2, 4)))
        >>> weights.item_users.numpy().tolist()
        [[0.0, 0.5, 0.5]]
    """

    user_items: Any
    user_users: Any
    item_users: Any
    item_items: Any


@keras.utils.register_keras_serializable(package="tfmtl")
class MacroWeight(keras.layers.Layer):
    """Distribution over macro nodes from the strength N of a row's edges to each.

        alpha_g = softmax_g( log(N_g + 1) / tau ) = (N_g + 1)^{1/tau} / sum_h (N_h + 1)^{1/tau}

    A small `tau` leaves the weight to the strongest edges, a large one spreads it. A row without
    edges weighs all nodes alike.

    Shapes: B rows, G macro nodes.

    Args:
        tau: Temperature.
        mask_padding: Whether column 0, the padding node, gets weight 0; it keeps its share
            otherwise.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: log(N + 1), `float [B, G + 1]`. Output shape: `float32 [B, G + 1]`, rows sum to 1.

    Raises:
        ValueError: If `tau` is not positive.

    References:
        MacGNN, macro weights of the released code.

    Deviations:
        MacGNN's released code leaves padding in the softmax: `mask_padding=False`.

    Example:
        >>> import tensorflow as tf
        >>> strengths = tf.math.log1p(tf.constant([[0.0, 3.0, 11.0]]))
        >>> MacroWeight(tau=1.0)(strengths).numpy().tolist()
        [[0.0, 0.25, 0.75]]
    """

    def __init__(self, *, tau: float = 1.3, mask_padding: bool = True, **kwargs: Any):
        # Half precision would round the strengths of frequent nodes to one another.
        super().__init__(autocast=False, **kwargs)
        self.tau = float(tau)
        self.mask_padding = bool(mask_padding)
        if not self.tau > 0:
            raise ValueError(
                f"expected a positive tau; received {tau}: take a small one for the strongest "
                "edges alone"
            )

    def call(self, log_counts: tf.Tensor) -> tf.Tensor:
        """Maps log(N + 1) `[B, G + 1]` to weights `float32 [B, G + 1]`."""
        scores = tf.cast(log_counts, tf.float32) / self.tau
        if not self.mask_padding:
            return tf.nn.softmax(scores)
        return tf.pad(tf.nn.softmax(scores[:, 1:]), [[0, 0], [1, 0]])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "tau": self.tau, "mask_padding": self.mask_padding}
