"""Cross-Stitch: a network per task, mixed linearly after every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.layers.cross_stitch_unit import CrossStitchUnit
from tfmtl.layers.expert_groups import ExpertGroups
from tfmtl.layers.tower import Tower
from tfmtl.models.multi_task_model import MultiTaskModel, Weighting
from tfmtl.schema import Task


class CrossStitch(MultiTaskModel):
    """Networks of equal widths that learn how much to take from one another.

        h^k_l = phi(W^k_l h~^k_{l-1} + b^k_l),  h~^k_0 = x
        h~^k_l = sum_s alpha^l_ks h^s_l
        o^k = tower^k(h~^k_L)

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings.
        units: Widths of the layers of each task's network, all followed by a cross-stitch unit.
        tower_units: Hidden widths of a tower, which are not mixed.
        per_channel: One alpha for each activation of a layer; else one for the whole layer.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared dense kernels.
        l2_embedding: Penalty on the batch's embeddings.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If `units` is empty.

    References:
        Misra et al., Cross-stitch Networks for Multi-task Learning (CVPR 2016), equation 1.

    Deviations:
        Embeddings are shared. The networks start at random, not from trained ones of one task
        each, and alpha has the learning rate of the other weights.

    Example:
        >>> import tensorflow as tf
        >>> age = InputSpec("age", "categorical", side="context", vocabulary_size=8, width=1)
        >>> model = CrossStitch([Task(name="click"), Task(name="like")], [age], units=[8])
        >>> sorted(model({"age": tf.constant([1, 2])}))
        ['click', 'like']
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        embedding_dim: int = 16,
        units: Sequence[int] = (128, 64, 32),
        tower_units: Sequence[int] = (),
        per_channel: bool = False,
        dropout: float = 0.0,
        l2: float = 0.0,
        l2_embedding: float = 0.0,
        weighting: Weighting = "static",
        **kwargs: Any,
    ):
        super().__init__(
            tasks,
            inputs,
            embedding_dim=embedding_dim,
            l2_embedding=l2_embedding,
            weighting=weighting,
            **kwargs,
        )
        if not units:
            raise ValueError(
                f"expected units of at least one layer to mix; received {list(units)}: "
                "use single_task for networks that share nothing"
            )
        # One layer of all tasks' networks is a bank of one expert per task.
        self.networks = [
            ExpertGroups(
                len(self.tasks), 1, [width], dropout=dropout, l2=l2, name=f"networks_{level}"
            )
            for level, width in enumerate(units)
        ]
        self.stitches = [
            CrossStitchUnit(per_channel=per_channel, name=f"stitch_{level}")
            for level in range(len(units))
        ]
        self.towers = {
            name: Tower(tower_units, dropout=dropout, l2=l2, name=f"{name}_tower")
            for name in self.task_names
        }

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        hidden = self.row_input(features)
        for network, stitch in zip(self.networks, self.stitches, strict=True):
            hidden = stitch(tf.squeeze(network(hidden, training=training), axis=2))
        return {
            name: self.towers[name](hidden[:, number], training=training)
            for number, name in enumerate(self.task_names)
        }
