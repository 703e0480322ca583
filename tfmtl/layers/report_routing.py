"""What `fit` and `evaluate` say of how gates spread rows over experts."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.top_k_router import Routing


def report_routing(owner: keras.layers.Layer, routings: Sequence[Routing]) -> None:
    """Reports the balance of the routers of a layer or a model, as means over an epoch's batches.

    `balance_loss` and `z_loss` are means over the routers, `smallest_expert_load` and
    `largest_expert_load` the least and the largest share of a router's choices that an expert
    received. Of a layer inside a model the names begin with the layer's, so that those of one layer
    do not stand for another.

    Args:
        owner: The layer or model whose call this is.
        routings: What its routers decided.

    Example:
        >>> from tfmtl.layers.top_k_router import TopKRouter
        >>> class Routed(keras.layers.Layer):
        ...     def build(self, shape):
        ...         self.router = TopKRouter(4)
        ...     def call(self, states):
        ...         report_routing(self, [self.router(states)])
        ...         return states
        >>> layer = Routed(name="routed")
        >>> _ = layer(tf.ones([2, 3]))
        >>> layer.metrics[0].name
        'routed_balance_loss'
    """
    prefix = "" if isinstance(owner, keras.Model) else f"{owner.name}_"
    loads = [routing.load for routing in routings]
    reported = {
        "balance_loss": tf.reduce_mean([routing.balance_loss for routing in routings]),
        "z_loss": tf.reduce_mean([routing.z_loss for routing in routings]),
        "smallest_expert_load": tf.reduce_min([tf.reduce_min(load) for load in loads]),
        "largest_expert_load": tf.reduce_max([tf.reduce_max(load) for load in loads]),
    }
    for name, value in reported.items():
        owner.add_metric(value, name=f"{prefix}{name}")
