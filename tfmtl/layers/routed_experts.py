"""A bank of experts of which each token visits a few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.per_expert_initializer import PerExpertInitializer


class _Slots(NamedTuple):
    """Where M visits lie among the rows that the experts work on."""

    rows: Any  # slot of each visit, `int32 [M]`; the one past the end where it is dropped
    blocks: Any  # number of blocks
    size: Any  # slots of a block
    experts: Any  # expert of each block; None where there is one block per expert, in their order


@keras.utils.register_keras_serializable(package="tfmtl")
class RoutedExperts(keras.layers.Layer):
    """Multi-layer perceptrons, evaluated only on the tokens that a router sends to them.

        MoE(x) = sum_{e in chosen} p_e Expert_e(x),   Expert_e(x) = W_2 act(W_1 x)

    The M = N k visits are sorted by expert and laid out in blocks of equal size, each of one
    expert, for one batched product per layer. Shapes depend on M and E alone, so XLA compiles it.

    Without capacity nothing is dropped, however uneven the routing. An expert's even share being
    m = M / E visits, blocks hold min(m / 2, 4 sqrt(m)) slots and an expert takes as many blocks as
    it needs. Whatever E is, that makes at most 1.5 M rows, fewer where m is above 64; each block
    copies the kernels of its expert, at most E + M / size of them. With capacity each expert has
    one block of C = ceil(capacity_factor m) slots, and kernels are used where they are. Visits to
    an expert beyond its C-th, in the order of the batch, are dropped. A token all of whose visits
    are dropped gets p x with one visit, and x with several; one that keeps some gets the sum over
    those.

    Shapes: N tokens (any leading dimensions), D input width, k visits per token, E experts, H width
    of the last layer.

    Args:
        num_experts: Number of experts E.
        units: Width of each layer of an expert.
        activation: Name of the activation after every layer but the last.
        use_bias: Whether layers add a bias.
        capacity_factor: Capacity of an expert as a multiple of its even share of the visits, or
            None to drop nothing. A dropped token depends on the other rows of its batch.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        inputs: Tokens `float [..., D]`.
        experts: The experts that each visits, `int32 [..., k]`, from 0 to E - 1.
        weights: What each visit counts, `float [..., k]`.

    Output shape: `float [..., H]`.

    Raises:
        ValueError: If `num_experts`, a width or `capacity_factor` is not positive, `units` is
            empty, or there is a capacity and H is not D, so that dropped tokens cannot pass.

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
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_experts = int(num_experts)
        self.units = [int(width) for width in units]
        self.activation = activation
        self.use_bias = bool(use_bias)
        self.capacity_factor = None if capacity_factor is None else float(capacity_factor)
        if self.num_experts < 1 or not self.units or min(self.units) < 1:
            raise ValueError(
                "expected at least one expert with at least one positive width; "
                f"received num_experts={num_experts}, units={list(units)}: give the width of each "
                "layer of an expert"
            )
        if self.capacity_factor is not None and not self.capacity_factor > 0:
            raise ValueError(
                f"expected a positive capacity_factor; received {capacity_factor}: take None to "
                "drop nothing"
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

    def call(self, inputs: tf.Tensor, experts: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Maps tokens `[..., D]` to `[..., H]`."""
        visits, width = experts.shape[-1], inputs.shape[-1]
        tokens = tf.reshape(inputs, [-1, width])
        slots = self._slots(tf.reshape(experts, [-1]))
        slot = slots.rows[:, tf.newaxis]
        used = slots.blocks * slots.size
        # The row past the end takes in what is dropped.
        laid_out = tf.scatter_nd(slot, tf.repeat(tokens, visits, axis=0), [used + 1, width])[:-1]
        hidden = self._evaluate(tf.reshape(laid_out, [slots.blocks, slots.size, width]), slots)
        hidden = tf.pad(tf.reshape(hidden, [used, self.units[-1]]), [[0, 1], [0, 0]])
        outputs = tf.reshape(tf.gather(hidden, slots.rows), [-1, visits, self.units[-1]])

        weights = tf.cast(tf.reshape(weights, [-1, visits]), outputs.dtype)
        outputs = tf.einsum("nk,nkh->nh", weights, outputs)
        if self.capacity_factor is not None:
            dropped = tf.reshape(slots.rows == used, [-1, visits])
            passed = tokens * weights if visits == 1 else tokens
            lost = tf.reduce_all(dropped, axis=-1, keepdims=True)
            outputs = tf.where(lost, passed, outputs)
        return tf.reshape(outputs, tf.concat([tf.shape(inputs)[:-1], [self.units[-1]]], axis=0))

    def dropped_share(self, experts: tf.Tensor) -> tf.Tensor:
        """Share of the visits `int32 [..., k]` that find their expert full, a `float32` scalar."""
        slots = self._slots(tf.reshape(experts, [-1]))
        return tf.reduce_mean(tf.cast(slots.rows == slots.blocks * slots.size, tf.float32))

    def _slots(self, experts: tf.Tensor) -> _Slots:
        """Lays out visits to `experts` `[M]`."""
        visits, largest = experts.shape[0], max
        if visits is None:
            visits, largest = tf.shape(experts)[0], tf.maximum
        order = tf.argsort(experts, stable=True)
        ordered = tf.gather(experts, order)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(experts), experts, self.num_experts)
        number = tf.range(visits) - tf.gather(tf.cumsum(counts, exclusive=True), ordered)
        if self.capacity_factor is None:
            size = largest(self._block_size(-(-visits // self.num_experts)), 1)
            blocks = (visits + self.num_experts * (size - 1)) // size
            ends = tf.cumsum(-(-counts // size))
            starts = tf.concat([[0], ends[:-1]], axis=0)
            rows = tf.gather(starts, ordered) * size + number
            owner = tf.searchsorted(ends, tf.range(blocks), side="right")
            # Blocks past the last that is needed hold zeros that no visit reads.
            owner = tf.minimum(owner, self.num_experts - 1)
        else:
            size = largest(self._capacity(self.capacity_factor, visits, self.num_experts), 1)
            blocks, owner = self.num_experts, None
            rows = tf.where(number < size, ordered * size + number, blocks * size)
        rows = tf.scatter_nd(order[:, tf.newaxis], rows, [visits])
        return _Slots(rows, blocks, size, owner)

    @staticmethod
    def _block_size(even: Any) -> Any:
        # Small blocks waste few slots on an expert's last block, large ones copy few kernels.
        if isinstance(even, int):
            return min(-(-even // 2), 4 * math.isqrt(even))
        root = tf.cast(tf.sqrt(tf.cast(even, tf.float64)), tf.int32)
        return tf.minimum(-(-even // 2), 4 * root)

    @staticmethod
    def _capacity(factor: float, visits: Any, experts: int) -> Any:
        if isinstance(visits, int):
            return math.ceil(factor * visits / experts)
        # Double precision, so that a batch of unknown size gets the capacity of a known one.
        return tf.cast(tf.math.ceil(factor * tf.cast(visits, tf.float64) / experts), tf.int32)

    def _evaluate(self, hidden: tf.Tensor, slots: _Slots) -> tf.Tensor:
        """Maps blocks `[P, size, D]` to `[P, size, H]`."""

        def of_blocks(variable: tf.Variable) -> tf.Tensor:
            stacked = tf.cast(variable, hidden.dtype)
            return stacked if slots.experts is None else tf.gather(stacked, slots.experts)

        for number, kernel in enumerate(self._kernels):
            if number:
                hidden = self._activation(hidden)
            hidden = tf.matmul(hidden, of_blocks(kernel))
            if self.use_bias:
                hidden += of_blocks(self._biases[number])[:, tf.newaxis]
        return hidden

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "units": self.units,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "capacity_factor": self.capacity_factor,
        }
