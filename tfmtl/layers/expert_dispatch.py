"""Runs the layers of a bank of experts on the visits of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from tfmtl.layers.compiled_or_gpu import compiled_or_gpu

Dispatch = Literal["auto", "split", "blocks"]


class StackedLayer(NamedTuple):
    """One layer of all experts of a bank: y = finish(s_e * normalize(x W_e) + b_e).

    Shapes: E experts, I input and O output width.

    Args:
        kernel: W, `float [E, I, O]`.
        bias: b, `float [E, O]`; None for none.
        scale: s, `float [E, O]`; None for none.
        normalize: Maps products `[..., O]` to `float32 [..., O]`, each row by itself; None for
            none.
        finish: What follows, element by element; None for nothing.

    Example:
        >>> StackedLayer(tf.ones([4, 8, 2])).bias is None
        True
    """

    kernel: Any
    bias: Any = None
    scale: Any = None
    normalize: Callable[[tf.Tensor], tf.Tensor] | None = None
    finish: Callable[[tf.Tensor], tf.Tensor] | None = None


class _Layout(NamedTuple):
    """Where M visits lie among the S slots that the experts work on, expert after expert."""

    source: Any  # visit in each slot, `int32 [S]`; any visit where the slot is empty
    slots: Any  # slot of each visit, `int32 [M]`; any slot where it is dropped
    occupied: Any  # whether a slot holds a visit, `bool [S]`; None where all do
    kept: Any  # whether a visit has a slot, `bool [M]`; None where all have


class ExpertDispatch:
    """Sorts visits by expert and evaluates each expert on its own, see `RoutedExperts`.

    It holds no weights: a bank hands over its layers.

    Args:
        num_experts: Number of experts E.
        dispatch: `split`, `blocks`, or `auto`: blocks under XLA and where there is a GPU.
        capacity_factor: Capacity of an expert as a multiple of its even share of the visits; None
            drops nothing.

    Raises:
        ValueError: If `dispatch` is unknown or `capacity_factor` is not positive.

    Example:
        >>> double = StackedLayer(tf.constant([[[1.0]], [[2.0]]]))
        >>> outputs, kept = ExpertDispatch(2)(tf.constant([[3.0]]), tf.constant([[1, 0]]), [double])
        >>> outputs.numpy().tolist(), kept is None
        ([[[6.0], [3.0]]], True)
    """

    def __init__(
        self,
        num_experts: int,
        *,
        dispatch: Dispatch = "auto",
        capacity_factor: float | None = None,
    ):
        self.num_experts = int(num_experts)
        self.dispatch: Dispatch = dispatch
        self.capacity_factor = None if capacity_factor is None else float(capacity_factor)
        if dispatch not in ("auto", "split", "blocks"):
            raise ValueError(
                f"expected dispatch 'auto', 'split' or 'blocks'; received {dispatch!r}: take "
                "'auto' unless the layer is exported for another device than it is traced on"
            )
        if self.capacity_factor is not None and not self.capacity_factor > 0:
            raise ValueError(
                f"expected a positive capacity_factor; received {capacity_factor}: take None to "
                "drop nothing"
            )

    def __call__(
        self, groups: tf.Tensor, experts: tf.Tensor, layers: Sequence[StackedLayer]
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Outputs of visits, and which of them were evaluated.

        Args:
            groups: What each of N decisions is about, `float [N, ..., D]`.
            experts: The experts that it visits, `int32 [N, k]`, from 0 to E - 1.
            layers: The layers of the bank, first layer first.

        Returns:
            Outputs `float [N, k, ..., H]`, 0 where dropped, and `bool [N, k]` of the visits that
            were not; None where none can be.
        """
        visits = experts.shape[-1]
        inner = [
            tf.shape(groups)[axis] if length is None else length
            for axis, length in enumerate(groups.shape[1:-1], start=1)
        ]
        chosen = tf.reshape(experts, [-1])
        blocked = self.dispatch == "blocks" or compiled_or_gpu()
        evaluate = (
            self._evaluate_split
            if self.dispatch == "split" or not blocked
            else self._evaluate_blocks
        )
        layout, hidden = evaluate(groups, inner, chosen, visits, layers)
        outputs = tf.reshape(_collected(hidden, layout), [-1, visits, *inner, hidden.shape[-1]])
        kept = None if layout.kept is None else tf.reshape(layout.kept, [-1, visits])
        return outputs, kept

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
        self,
        groups: tf.Tensor,
        inner: Sequence[Any],
        experts: tf.Tensor,
        visits_per_group: int,
        layers: Sequence[StackedLayer],
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
        for layer in layers:
            kernels, biases, scales = (
                [None] * self.num_experts
                if stacked is None
                else tf.unstack(tf.cast(stacked, groups.dtype), num=self.num_experts)
                for stacked in (layer.kernel, layer.bias, layer.scale)
            )
            parts = [
                _finished(layer, tf.matmul(part, kernel), bias, scale)
                for part, kernel, bias, scale in zip(parts, kernels, biases, scales, strict=True)
            ]
        return layout, tf.reshape(tf.concat(parts, axis=0), [-1, *inner, parts[0].shape[-1]])

    def _evaluate_blocks(
        self,
        groups: tf.Tensor,
        inner: Sequence[Any],
        experts: tf.Tensor,
        visits_per_group: int,
        layers: Sequence[StackedLayer],
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

        def of_blocks(stacked: Any) -> tf.Tensor:
            stacked = tf.cast(stacked, hidden.dtype)
            return stacked if owner is None else tf.gather(stacked, owner)

        for layer in layers:
            bias, scale = (
                None if stacked is None else of_blocks(stacked)[:, tf.newaxis]
                for stacked in (layer.bias, layer.scale)
            )
            hidden = _finished(layer, tf.matmul(hidden, of_blocks(layer.kernel)), bias, scale)
        return layout, tf.reshape(hidden, [blocks * size, *inner, hidden.shape[-1]])

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


def _finished(layer: StackedLayer, products: tf.Tensor, bias: Any, scale: Any) -> tf.Tensor:
    """What follows an expert's products."""
    hidden = products if layer.normalize is None else layer.normalize(products)
    if scale is not None:
        hidden *= tf.cast(scale, hidden.dtype)
    if bias is not None:
        hidden += tf.cast(bias, hidden.dtype)
    hidden = tf.cast(hidden, products.dtype)
    return hidden if layer.finish is None else layer.finish(hidden)


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
