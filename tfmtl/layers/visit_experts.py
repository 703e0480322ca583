"""Evaluates experts of dense banks on the rows that chose them, and on no others."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfmtl.layers.expert_dispatch import ExpertDispatch, StackedLayer
from tfmtl.layers.expert_groups import ExpertGroups
from tfmtl.layers.experts import Experts


def visit_experts(
    banks: Sequence[Experts | ExpertGroups],
    inputs: tf.Tensor,
    visits: Sequence[tf.Tensor],
    *,
    sources: Sequence[int] | None = None,
    training: bool | None = None,
) -> list[tf.Tensor]:
    """What chosen experts make of each row, one visit after the other.

    The weights are those of the banks, as their dense evaluation uses them. All visits go through
    one dispatch: those of several gates, and of several banks, whose experts are numbered one bank
    after the other. An expert that two gates choose for a row is visited twice, with dropout masks
    of its own each time.

    Shapes: B rows, D input width, G inputs of a row, k visits of a gate, H width of an expert.

    Args:
        banks: Banks of one shape of expert and one activation.
        inputs: `float [B, D]` that all experts read, or with `sources` `float [B, G, D]`.
        visits: For each gate the experts that it chose, `int32 [B, k]`.
        sources: For each expert the number of its input among the G.
        training: Whether dropout is active.

    Returns:
        For each gate the outputs of its visits, `float [B, k, H]`.

    Example:
        >>> bank = Experts(4, [8])
        >>> (outputs,) = visit_experts([bank], tf.ones([5, 3]), [tf.zeros([5, 2], tf.int32)])
        >>> outputs.shape
        TensorShape([5, 2, 8])
    """
    for bank in banks:
        _build(bank, int(inputs.shape[-1]))
    inputs = tf.cast(inputs, banks[0].compute_dtype)
    stacked = [bank.stacked_layers(training=training) for bank in banks]
    layers = [_joined(layers) for layers in zip(*stacked, strict=True)]
    dispatch = ExpertDispatch(layers[0].kernel.shape[0])
    chosen = tf.concat(visits, axis=1)
    if sources is None:
        outputs, _ = dispatch(inputs, chosen, layers)
    else:
        own = tf.gather(inputs, tf.gather(tf.constant(sources), chosen), axis=1, batch_dims=1)
        outputs, _ = dispatch(
            tf.reshape(own, [-1, inputs.shape[-1]]), tf.reshape(chosen, [-1, 1]), layers
        )
        outputs = tf.reshape(outputs, [-1, chosen.shape[-1], outputs.shape[-1]])
    return tf.split(outputs, [choice.shape[-1] for choice in visits], axis=1)


def _build(bank: Experts | ExpertGroups, width: int) -> None:
    """Makes the weights of a bank that no call has made, under the names that a call gives them."""
    if not bank.built:
        # Weights outlive the graph that a first call may be traced in.
        with tf.init_scope(), tf.name_scope(bank.name):
            bank.build(tf.TensorShape([None, width]))


def _joined(layers: Sequence[StackedLayer]) -> StackedLayer:
    """One layer of the experts of all banks."""
    if len(layers) == 1:
        return layers[0]
    kernels, biases = (
        tf.concat([getattr(layer, part) for layer in layers], axis=0) for part in ("kernel", "bias")
    )
    return layers[0]._replace(kernel=kernels, bias=biases)
