"""A bank of experts of which each token visits a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.expert_dispatch import Dispatch, ExpertDispatch, StackedLayer
from tfmtl.layers.per_expert_initializer import PerExpertInitializer


@keras.utils.register_keras_serializable(package="tfmtl")
class RoutedExperts(keras.layers.Layer):
    """Multi-layer perceptrons, evaluated only on the tokens that a router sends to them.

        MoE(x) = sum_{e in chosen} p_e Expert_e(x),   Expert_e(x) = W_2 act(W_1 x)

    The M = N k visits are sorted by expert, in one of two ways:

    - `"split"`: one product per expert, of just the visits that it has. Nothing is computed that
      no visit needs, and kernels are used where they are. For CPUs.
    - `"blocks"`: visits are laid out in blocks of equal size, each of one expert, for one batched
      product per layer. Shapes depend on M and E alone, so XLA compiles it and a GPU is filled.
      With m = M / E visits as an expert's even share, blocks hold min(m / 2, 4 sqrt(m)) slots and
      an expert takes as many blocks as it needs: at most 1.5 M slots whatever E is, fewer where m
      is above 64, and at most E + M / size copies of kernels.

    Without capacity nothing is dropped, however uneven the routing. With it, visits to an expert
    beyond its C-th, in the order of the batch, are dropped, C = ceil(capacity_factor m), and
    blocks are one per expert, of C slots. A token all of whose visits are dropped gets p x with one
    visit, and x with several; one that keeps some gets the sum over those.

    Tokens may share a decision, as those of a row do where the row's tasks decide: then N counts
    decisions, and the tokens of a decision stay together.

    Shapes: N decisions (any leading dimensions), D input width, k visits per decision, E experts,
    H width of the last layer.

    Args:
        num_experts: Number of experts E.
        units: Width of each layer of an expert.
        activation: Name of the activation after every layer but the last.
        use_bias: Whether layers add a bias.
        capacity_factor: Capacity of an expert as a multiple of its even share of the visits, or
            None to drop nothing. A dropped token depends on the other rows of its batch.
        dispatch: `split`, `blocks`, or `auto`: blocks under XLA and where there is a GPU.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: Tokens `float [..., D]`, or `float [..., L, D]` with L tokens per decision.
        experts: The experts of each decision, `int32 [..., k]`, from 0 to E - 1.
        weights: What each visit counts, `float [..., k]`.

    Output shape: that of the inputs, with H in place of D.

    Raises:
        ValueError: If `num_experts`, a width or `capacity_factor` is not positive, `units` is
            empty, `dispatch` is unknown, or there is a capacity and H is not D, so that dropped
            tokens cannot pass.

    References:
        GRec (CIKM 2023), experts of the released code; Switch Transformer (JMLR 2022), section 2.

    Deviations:
        GRec's released code counts an expert's tokens within each sample; here they are counted
        over the batch. Blocks that drop nothing are a form of our own.

    Example:
        >>> import tensorflow as tf
        >>> layer = RoutedExperts(4, [32, 8])
        >>> layer(tf.ones([3, 8]), tf.constant([[0], [3], [0]]), tf.ones([3, 1])).shape
        TensorShape([3, 8])
    """

    def __init__(
        self,
        num_experts: int,
        units: Sequence[int],
        *,
        activation: str = "leaky_relu",
        use_bias: bool = False,
        capacity_factor: float | None = None,
        dispatch: Dispatch = "auto",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_experts = int(num_experts)
        self.units = [int(width) for width in units]
        self.activation = activation
        self.use_bias = bool(use_bias)
        self.capacity_factor = None if capacity_factor is None else float(capacity_factor)
        self.dispatch: Dispatch = dispatch
        if self.num_experts < 1 or not self.units or min(self.units) < 1:
            raise ValueError(
                "expected at least one expert with at least one positive width; "
                f"received num_experts={num_experts}, units={list(units)}: give the width of each "
                "layer of an expert"
            )
        self._dispatch = ExpertDispatch(
            self.num_experts, dispatch=dispatch, capacity_factor=capacity_factor
        )

    def build(self, input_shape: Any) -> None:
        """Creates one stacked kernel `[E, in, out]`, and maybe a bias `[E, out]`, per layer."""
        width = int(tf.TensorShape(input_shape)[-1])
        if self.capacity_factor is not None and self.units[-1] != width:
            raise ValueError(
                f"expected units that end with {width}, the width of the inputs, as dropped tokens "
                f"pass unchanged; received {list(self.units)}: change the last width, or take "
                "capacity_factor=None"
            )
        self._activation = keras.activations.get(self.activation)
        self._kernels, self._biases = [], []
        for number, units in enumerate(self.units):
            self._kernels.append(
                self.add_weight(
                    name=f"kernel_{number}",
                    shape=(self.num_experts, width, units),
                    initializer=PerExpertInitializer("glorot_uniform"),
                )
            )
            if self.use_bias:
                self._biases.append(
                    self.add_weight(
                        name=f"bias_{number}", shape=(self.num_experts, units), initializer="zeros"
                    )
                )
            width = units
        super().build(input_shape)

    @property
    def kernels(self) -> list[tf.Variable]:
        """Stacked kernels `[E, in, out]`, first layer first."""
        return self._kernels

    @property
    def biases(self) -> list[tf.Variable]:
        """Stacked biases `[E, out]`, first layer first; none without biases."""
        return self._biases

    def call(self, inputs: tf.Tensor, experts: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Maps tokens `[..., D]` to `[..., H]`."""
        visits = experts.shape[-1]
        first = experts.shape.rank - 1
        inner = [
            tf.shape(inputs)[first + axis] if length is None else length
            for axis, length in enumerate(inputs.shape[first:-1])
        ]
        groups = tf.reshape(inputs, [-1, *inner, inputs.shape[-1]])
        last = len(self._kernels) - 1
        layers = [
            StackedLayer(
                kernel,
                self._biases[number] if self.use_bias else None,
                finish=self._activation if number < last else None,
            )
            for number, kernel in enumerate(self._kernels)
        ]
        outputs, kept = self._dispatch(groups, tf.reshape(experts, [-1, visits]), layers)

        weights = tf.cast(tf.reshape(weights, [-1, visits]), outputs.dtype)
        weights = tf.reshape(weights, [-1, visits, *[1] * (len(inner) + 1)])
        outputs = tf.reduce_sum(weights * outputs, axis=1)
        if kept is not None:
            lost = ~tf.reduce_any(kept, axis=-1)
            passed = groups * weights[:, 0] if visits == 1 else groups
            outputs = tf.where(tf.reshape(lost, [-1, *[1] * (len(inner) + 1)]), passed, outputs)
        return tf.reshape(outputs, tf.concat([tf.shape(inputs)[:-1], [self.units[-1]]], axis=0))

    def dropped_share(self, experts: tf.Tensor) -> tf.Tensor:
        """Share of the visits `int32 [..., k]` that find their expert full, a `float32` scalar.

        0 for an empty batch.
        """
        return self._dispatch.dropped_share(experts)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "units": self.units,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "capacity_factor": self.capacity_factor,
            "dispatch": self.dispatch,
        }
