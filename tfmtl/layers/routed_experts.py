"""A bank of experts of which each token visits a few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import tensorflow as tf
import tf_keras as keras
from tf_keras.src.utils.control_flow_util import GraphOrParentsInXlaContext

from tfmtl.layers.per_expert_initializer import PerExpertInitializer

Dispatch = Literal["auto", "split", "blocks"]


class _Layout(NamedTuple):
    """Where M visits lie among the S slots that the experts work on, expert after expert."""

    source: Any  # visit in each slot, `int32 [S]`; any visit where the slot is empty
    slots: Any  # slot of each visit, `int32 [M]`; any slot where it is dropped
    occupied: Any  # whether a slot holds a visit, `bool [S]`; None where all do
    kept: Any  # whether a visit has a slot, `bool [M]`; None where all have


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
        if dispatch not in ("auto", "split", "blocks"):
            raise ValueError(
                f"expected dispatch 'auto', 'split' or 'blocks'; received {dispatch!r}: take "
                "'auto' unless the layer is exported for another device than it is traced on"
            )
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
        visits = experts.shape[-1]
        first = experts.shape.rank - 1
        inner = [
            tf.shape(inputs)[first + axis] if length is None else length
            for axis, length in enumerate(inputs.shape[first:-1])
        ]
        groups = tf.reshape(inputs, [-1, *inner, inputs.shape[-1]])
        chosen = tf.reshape(experts, [-1])
        # XLA and GPUs want shapes that do not depend on the data.
        blocked = (
            self.dispatch == "blocks"
            or GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
            or bool(tf.config.list_logical_devices("GPU"))
        )
        if self.dispatch == "split" or not blocked:
            layout, hidden = self._evaluate_split(groups, inner, chosen, visits)
        else:
            layout, hidden = self._evaluate_blocks(groups, inner, chosen, visits)
        outputs = _collected(hidden, layout)
        outputs = tf.reshape(outputs, [-1, visits, *inner, self.units[-1]])

        weights = tf.cast(tf.reshape(weights, [-1, visits]), outputs.dtype)
        weights = tf.reshape(weights, [-1, visits, *[1] * (len(inner) + 1)])
        outputs = tf.reduce_sum(weights * outputs, axis=1)
        if layout.kept is not None:
            lost = ~tf.reduce_any(tf.reshape(layout.kept, [-1, visits]), axis=-1)
            passed = groups * weights[:, 0] if visits == 1 else groups
            outputs = tf.where(tf.reshape(lost, [-1, *[1] * (len(inner) + 1)]), passed, outputs)
        return tf.reshape(outputs, tf.concat([tf.shape(inputs)[:-1], [self.units[-1]]], axis=0))

    def dropped_share(self, experts: tf.Tensor) -> tf.Tensor:
        """Share of the visits `int32 [..., k]` that find their expert full, a `float32` scalar.

        0 for an empty batch.
        """
        chosen = tf.reshape(experts, [-1])
        if self.capacity_factor is None:
            return tf.zeros([])
        order, number, _ = self._sorted(chosen)
        late = tf.cast(number >= self._capacity(order), tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(late), tf.cast(tf.size(late), tf.float32))

    def _sorted(self, experts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Visits by expert, the number of each among those of its expert, and how many it has."""
        order = tf.argsort(experts, stable=True)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(experts), experts, self.num_experts)
        starts = tf.gather(tf.cumsum(counts, exclusive=True), tf.gather(experts, order))
        return order, tf.range(tf.size(order)) - starts, counts

    def _evaluate_split(
        self, groups: tf.Tensor, inner: Sequence[Any], experts: tf.Tensor, visits_per_group: int
    ) -> tuple[_Layout, tf.Tensor]:
        """One product per expert, of the visits that it has."""
        order, number, counts = self._sorted(experts)
        slots = tf.math.invert_permutation(order)
        occupied = kept = None
        if self.capacity_factor is not None:
            # Dropped visits are evaluated all the same: no expert has a block to be full.
            occupied = number < self._capacity(order)
            kept = tf.gather(occupied, slots)
        layout = _Layout(order, slots, occupied, kept)
        parts = tf.split(_laid_out(groups, layout, visits_per_group), counts, num=self.num_experts)
        parts = [tf.reshape(part, [-1, groups.shape[-1]]) for part in parts]
        for number, kernel in enumerate(self._kernels):
            kernels = tf.unstack(tf.cast(kernel, groups.dtype))
            if number:
                parts = [self._activation(part) for part in parts]
            parts = [tf.matmul(part, own) for part, own in zip(parts, kernels, strict=True)]
            if self.use_bias:
                biases = tf.unstack(tf.cast(self._biases[number], groups.dtype))
                parts = [part + own for part, own in zip(parts, biases, strict=True)]
        return layout, tf.reshape(tf.concat(parts, axis=0), [-1, *inner, self.units[-1]])

    def _evaluate_blocks(
        self, groups: tf.Tensor, inner: Sequence[Any], experts: tf.Tensor, visits_per_group: int
    ) -> tuple[_Layout, tf.Tensor]:
        """One product of all blocks, whose shapes depend on M and E alone."""
        order, number, counts = self._sorted(experts)
        ordered = tf.gather(experts, order)
        visits, largest = experts.shape[0], max
        if visits is None:
            visits, largest = tf.shape(experts)[0], tf.maximum
        owner = kept = None
        if self.capacity_factor is None:
            size = largest(self._block_size(-(-visits // self.num_experts)), 1)
            blocks = (visits + self.num_experts * (size - 1)) // size
            ends = tf.cumsum(-(-counts // size))
            starts = tf.concat([[0], ends[:-1]], axis=0)
            slots = tf.gather(starts, ordered) * size + number
            # Blocks past the last that is needed hold nothing that is read.
            owner = tf.minimum(
                tf.searchsorted(ends, tf.range(blocks), side="right"), self.num_experts - 1
            )
        else:
            size, blocks = self._capacity(order), self.num_experts
            slots = ordered * size + tf.minimum(number, size - 1)
            kept = tf.gather(number < size, tf.math.invert_permutation(order))
        # The slot past the end takes in what is dropped.
        held = slots if kept is None else tf.where(number < size, slots, blocks * size)
        source = tf.scatter_nd(held[:, tf.newaxis], order + 1, [blocks * size + 1])[:-1]
        slots = tf.scatter_nd(order[:, tf.newaxis], slots, [visits])
        layout = _Layout(tf.maximum(source - 1, 0), slots, occupied=source > 0, kept=kept)

        hidden = _laid_out(groups, layout, visits_per_group)
        hidden = tf.reshape(hidden, [blocks, size * math.prod(inner), groups.shape[-1]])

        def of_blocks(variable: tf.Variable) -> tf.Tensor:
            stacked = tf.cast(variable, hidden.dtype)
            return stacked if owner is None else tf.gather(stacked, owner)

        for number, kernel in enumerate(self._kernels):
            if number:
                hidden = self._activation(hidden)
            hidden = tf.matmul(hidden, of_blocks(kernel))
            if self.use_bias:
                hidden += of_blocks(self._biases[number])[:, tf.newaxis]
        return layout, tf.reshape(hidden, [blocks * size, *inner, self.units[-1]])

    @staticmethod
    def _block_size(even: Any) -> Any:
        # Small blocks waste few slots on an expert's last block, large ones copy few kernels.
        if isinstance(even, int):
            return min(-(-even // 2), 4 * math.isqrt(even))
        root = tf.cast(tf.sqrt(tf.cast(even, tf.float64)), tf.int32)
        return tf.minimum(-(-even // 2), 4 * root)

    def _capacity(self, visits: tf.Tensor) -> Any:
        number = visits.shape[0]
        if number is not None:
            return math.ceil(self.capacity_factor * number / self.num_experts)
        # Double precision, so that a batch of unknown size gets the capacity of a known one.
        number = tf.cast(tf.size(visits), tf.float64)
        return tf.cast(tf.math.ceil(self.capacity_factor * number / self.num_experts), tf.int32)

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


def _laid_out(groups: tf.Tensor, layout: _Layout, visits: int) -> tf.Tensor:
    """Groups `[N, ...]` in the slots of their visits, `[S, ...]`."""

    # The gradient of a gather adds rows one by one; here it is known to be another gather.
    @tf.custom_gradient
    def gathered(values: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return tf.gather(values, layout.source // visits), scattered

    def scattered(upstream: tf.Tensor) -> tf.Tensor:
        own = tf.gather(upstream, layout.slots)
        if layout.kept is not None:
            own = _zeroed(own, layout.kept)
        if visits == 1:
            return own
        return tf.reduce_sum(
            tf.reshape(own, tf.concat([[-1, visits], tf.shape(own)[1:]], axis=0)), axis=1
        )

    return gathered(groups)


def _collected(hidden: tf.Tensor, layout: _Layout) -> tf.Tensor:
    """Outputs of the visits `[M, ...]` from those of the slots `[S, ...]`; 0 where dropped."""

    @tf.custom_gradient
    def gathered(values: tf.Tensor) -> tuple[tf.Tensor, Any]:
        own = tf.gather(values, layout.slots)
        return own if layout.kept is None else _zeroed(own, layout.kept), scattered

    def scattered(upstream: tf.Tensor) -> tf.Tensor:
        own = tf.gather(upstream, layout.source)
        return own if layout.occupied is None else _zeroed(own, layout.occupied)

    return gathered(hidden)


def _zeroed(values: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    kept = tf.reshape(kept, [-1, *[1] * (values.shape.rank - 1)])
    return tf.where(kept, values, tf.zeros([], values.dtype))
