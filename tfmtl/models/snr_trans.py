"""SNR-Trans: sub-networks whose connections are learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.layers.expert_groups import ExpertGroups
from tfmtl.layers.sub_network_routing import SubNetworkRouting
from tfmtl.layers.tower import Tower
from tfmtl.models.multi_task_model import MultiTaskModel, Weighting
from tfmtl.schema import Task


class SNRTrans(MultiTaskModel):
    """Levels of sub-networks; gates z learn who feeds whom, and which of the last feed a task.

        v^1_i = f^1_i(x)
        v^{l+1}_j = f^{l+1}_j(sum_i z^l_ij W^l_ij v^l_i)
        o^k = tower^k(sum_i z^L_ik W^L_ik v^L_i)

    Unlike the gates of MMoE, z does not depend on the row: it is an architecture. Connections
    whose gate has come to 0 could be left out.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings.
        num_subnetworks: Number of sub-networks f of a level.
        level_units: For each level the widths of the layers of its sub-networks. W keeps the width
            of what it maps.
        tower_units: Hidden widths of a tower.
        stochastic: Whether training draws the gates; else they have their values of inference in
            training too.
        l0: Penalty on the expected number of open connections, see `SubNetworkRouting`.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared dense kernels.
        l2_embedding: Penalty on the batch's embeddings.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If there is no level, or `level_units` is not one sequence per level.

    References:
        Ma et al., SNR: Sub-Network Routing for Flexible Parameter Sharing in Multi-Task Learning
        (AAAI 2019), SNR-Trans.

    Deviations:
        `l0` is 0 unless set. `stochastic` is an addition.

    Example:
        >>> import tensorflow as tf
        >>> age = InputSpec("age", "categorical", side="context", vocabulary_size=8, width=1)
        >>> model = SNRTrans([Task(name="click")], [age], level_units=[[16], [8]])
        >>> model({"age": tf.constant([1, 2])})["click"].shape
        TensorShape([2])
        >>> [routing.gates().shape.as_list() for routing in model.routings]
        [[4, 4], [4, 1]]
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        embedding_dim: int = 16,
        num_subnetworks: int = 4,
        level_units: Sequence[Sequence[int]] = ((64, 32),),
        tower_units: Sequence[int] = (32,),
        stochastic: bool = True,
        l0: float = 0.0,
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
        if not level_units or not all(
            isinstance(units, Sequence) and len(units) for units in level_units
        ):
            raise ValueError(
                "expected level_units with the widths of one level or more, such as "
                f"[[64, 32]]; received {list(level_units)}"
            )
        self.subnetworks = [
            ExpertGroups(
                num_subnetworks, 1, units, dropout=dropout, l2=l2, name=f"subnetworks_{level}"
            )
            for level, units in enumerate(level_units)
        ]
        num_outputs = [num_subnetworks] * (len(level_units) - 1) + [len(self.tasks)]
        self.routings = [
            SubNetworkRouting(
                outputs, units[-1], stochastic=stochastic, l2=l2, l0=l0, name=f"routing_{level}"
            )
            for level, (outputs, units) in enumerate(zip(num_outputs, level_units, strict=True))
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
        for subnetworks, routing in zip(self.subnetworks, self.routings, strict=True):
            hidden = tf.squeeze(subnetworks(hidden, training=training), axis=2)
            hidden = routing(hidden, training=training)
        return {
            name: self.towers[name](hidden[:, number], training=training)
            for number, name in enumerate(self.task_names)
        }
