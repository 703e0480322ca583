"""Mixes the experts of one bank by gates, all of them or the chosen ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.experts import Experts
from tfmtl.layers.gate import Gate
from tfmtl.layers.report_routing import report_routing
from tfmtl.layers.visit_experts import visit_experts


def mix_experts(
    owner: keras.layers.Layer,
    bank: Experts,
    inputs: tf.Tensor,
    gates: Sequence[Gate],
    *,
    context: tf.Tensor | None = None,
    training: bool | None = None,
) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Mixtures of a bank's experts, one gate after the other.

        y^t = sum_n g^t(x)_n [ f^n(x) || c^n ]

    Where gates choose, the sum is over the chosen experts, and only those are evaluated.

    Shapes: B rows, D input width, E experts of width H, C width of the context.

    Args:
        owner: The layer or model whose call this is; it reports how choices are spread.
        bank: The experts f^n.
        inputs: x, `float [B, D]`.
        gates: The gates g^t: all of them choose, or none does.
        context: c^n, `float [B, E, C]`, that is mixed along with the experts; None for none.
        training: Whether dropout is active.

    Yields:
        For each gate its distribution, `float32 [B, E]`, and the mixture, `float [B, H + C]`.

    Example:
        >>> bank, owner = Experts(4, [8]), keras.layers.Layer(name="owner")
        >>> mixtures = mix_experts(owner, bank, tf.ones([5, 3]), [Gate(4)])
        >>> [mixture.shape for _, mixture in mixtures]
        [TensorShape([5, 8])]
    """
    if gates[0].k is None:
        mixture_of = _dense_mixer(bank, inputs, context, training)
        # One by one, so that weights are made in the order of the tasks.
        for gate in gates:
            weights = gate(inputs)
            yield weights, mixture_of(weights)
        return
    routings = [gate(inputs) for gate in gates]
    report_routing(owner, routings)
    visits = [routing.experts for routing in routings]
    outputs = visit_experts([bank], inputs, visits, training=training)
    for routing, experts in zip(routings, outputs, strict=True):
        if context is not None:
            own = tf.gather(context, routing.experts, axis=1, batch_dims=1)
            experts = tf.concat([experts, own], axis=-1)
        weights = tf.cast(routing.weights, experts.dtype)
        yield routing.probabilities, tf.einsum("bk,bkh->bh", weights, experts)


def _dense_mixer(
    bank: Experts, inputs: tf.Tensor, context: tf.Tensor | None, training: bool | None
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Maps the weights `[B, E]` of a gate to its mixture of all experts."""
    if bank.is_batched:
        experts = bank(inputs, training=training)
        if context is not None:
            experts = tf.concat([experts, context], axis=-1)
        return lambda weights: _product(weights, experts)

    # A product per row is small, and a CPU adds up whole experts faster.
    outputs = bank(inputs, training=training, stacked=False)

    def sum_of_outputs(weights: tf.Tensor) -> tf.Tensor:
        shares = tf.split(tf.cast(weights, outputs[0].dtype), len(outputs), axis=1)
        mixture = tf.add_n([share * own for share, own in zip(shares, outputs, strict=True)])
        if context is None:
            return mixture
        return tf.concat([mixture, _product(weights, context)], axis=-1)

    return sum_of_outputs


def _product(weights: tf.Tensor, experts: tf.Tensor) -> tf.Tensor:
    return tf.einsum("be,beh->bh", tf.cast(weights, experts.dtype), experts)
